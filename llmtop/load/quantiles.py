"""Exact quantiles of the values at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

P99_NEEDS: Final = 100


class Quantiles(msgspec.Struct, frozen=True):
    """Linear interpolation between the sorted values. `p99` is None below 100 values."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float | None
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles | None:
        """None of no values."""
        if not values:
            return None
        ordered = sorted(values)
        return cls(
            n=len(ordered),
            mean=sum(ordered) / len(ordered),
            p50=quantile(ordered, 0.50),
            p90=quantile(ordered, 0.90),
            p95=quantile(ordered, 0.95),
            p99=quantile(ordered, 0.99) if len(ordered) >= P99_NEEDS else None,
            max=ordered[-1],
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of `ordered` lies, between neighbours linearly."""
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
