"""What paired differences say: their median and how far chance alone may have moved it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

_RESAMPLES = 10_000


class Estimate(NamedTuple):
    """The median of `n` values and its 95 % interval."""

    n: int
    median: float
    low: float
    high: float


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """Source: Efron and Tibshirani, An Introduction to the Bootstrap, percentile intervals."""
    rng = random.Random(seed)
    medians = sorted(median(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    cut = _RESAMPLES // 40
    return Estimate(len(values), median(values), medians[cut], medians[-1 - cut])


def costs(turns: Sequence[tuple[str, float]], base: str) -> dict[str, list[float]]:
    """By case, the percent of the rate that each of its turns lost to the turn beside it.

    `turns` holds (case, seconds a step) in order; they go two by two, one of them of `base`.
    """
    found: dict[str, list[float]] = {}
    for two in zip(turns[::2], turns[1::2], strict=True):
        (_, base_s), (case, step_s) = two if two[0][0] == base else two[::-1]
        found.setdefault(case, []).append(100 * (1 - base_s / step_s))
    return found
