"""Exact quantiles of the values at hand, weighted or not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
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
        total = sum(map(mul, ordered, weights))
        return cls.of_ranks(n, total, lambda rank: ordered[bisect_right(ends, rank)])

    @classmethod
    def of_ranks(cls, n: int, total: float, at: Callable[[int], float]) -> Quantiles:
        """Of `n` values, 1 or more, that add up to `total`; `at` gives them by rank, from 0."""

        def quantile(share: float) -> float:
            place = share * (n - 1)
            below = int(place)
            low = at(below)
            high = at(min(below + 1, n - 1))
            return low + (high - low) * (place - below)

        return cls(
            n=n,
            mean=total / n,
            p50=quantile(0.50),
            p90=quantile(0.90),
            p95=quantile(0.95),
            p99=quantile(0.99) if n >= P99_NEEDS else None,
            max=float(at(n - 1)),
        )
