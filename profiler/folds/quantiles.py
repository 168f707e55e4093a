"""Exact quantiles of the values at hand, weighted or not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Final

import msgspec

P99_NEEDS: Final = 100


class Quantiles(msgspec.Struct, frozen=True):
    """Linear interpolation between neighbours, as numpy's default. `p99` is None below 100 values:
    a screen then shows "max of n"."""

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
        return cls.of_weighted(sorted(values), [1] * len(values))

    @classmethod
    def of_weighted(cls, ordered: Sequence[float], weights: Sequence[int]) -> Quantiles | None:
        """`ordered` rises, each value standing for as many as its weight. None of no values."""
        ends = list(accumulate(weights))
        n = ends[-1] if ends else 0
        if n == 0:
            return None

        def quantile(share: float) -> float:
            at = share * (n - 1)
            below = int(at)
            low = ordered[bisect_right(ends, below)]
            high = ordered[bisect_right(ends, min(below + 1, n - 1))]
            return low + (high - low) * (at - below)

        return cls(
            n=n,
            mean=sum(map(mul, ordered, weights)) / n,
            p50=quantile(0.50),
            p90=quantile(0.90),
            p95=quantile(0.95),
            p99=quantile(0.99) if n >= P99_NEEDS else None,
            max=float(ordered[-1]),
        )
