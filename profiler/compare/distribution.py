"""How the values of two runs are spread: points of both cumulative distributions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from profiler.compare.measured import LATENCIES, Measured

_NUM_POINTS: Final = 101


class Distribution(msgspec.Struct, frozen=True):
    """Of a latency, ms: the share `shares[i]` (0 to 1) of A's values is at most `a[i]`, and so for
    B."""

    latency: str
    shares: list[float]
    a: list[float]
    b: list[float]


def distributions(a: Measured, b: Measured) -> Iterator[Distribution]:
    """Of each latency that both have."""
    shares = np.linspace(0.0, 1.0, _NUM_POINTS)
    for latency in (*LATENCIES, "step"):
        first, second = a.distribution(latency), b.distribution(latency)
        if first is not None and second is not None:
            yield Distribution(
                latency, shares.tolist(), first.at(shares).tolist(), second.at(shares).tolist()
            )
