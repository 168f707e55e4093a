"""Counts by upper edge, as Prometheus wants them."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec

# Contains every edge of vLLM's, and four more below 10 ms for small models.
TOKEN_LATENCY_S: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15,
    0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
FIRST_TOKEN_S: Final = (
    0.001, 0.002, 0.004, 0.005, 0.006, 0.008, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
REQUEST_S: Final = (
    0.001, 0.002, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0,
    15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
TOKENS: Final = tuple(float(k * 10**p) for p in range(7) for k in (1, 2, 5))
STEP_TOKENS: Final = (1.0, *(float(1 << p) for p in range(3, 15)))
SMALL_COUNTS: Final = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)


class Histogram(msgspec.Struct, array_like=True):
    """`counts[i]` values were at most `edges[i]` and above the edge before; the last count is of
    those above all edges."""

    edges: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError("a histogram needs one count more than edges")

    @classmethod
    def of(cls, edges: tuple[float, ...]) -> Histogram:
        return cls(edges, [0] * (len(edges) + 1))

    def add(self, value: float, weight: int = 1) -> None:
        self.counts[bisect_left(self.edges, value)] += weight
        self.total += value * weight

    def add_ns(self, value_ns: float | None, weight: int = 1) -> None:
        """In seconds; None is not there to count."""
        if value_ns is not None:
            self.add(value_ns / 1e9, weight)
