"""Intervals by drawing again: what a difference could have been with other requests of the kind.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: the percentile
interval.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS: Final = 1000
LEVEL: Final = 0.95

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    low: float
    high: float


def draw(units_a: int, units_b: int, paired: bool, seed: int) -> tuple[Floats, Floats]:
    """How often each unit of A and of B is drawn, (1000, units) each; the same draws for both if
    their units are pairs. The same seed gives the same draws."""
    rng = np.random.default_rng(seed)
    first = _draws(rng, units_a)
    return first, first if paired else _draws(rng, units_b)


def _draws(rng: np.random.Generator, units: int) -> Floats:
    return rng.multinomial(units, np.full(units, 1 / units), NUM_DRAWS).astype(np.float64)


def interval(a: Floats, b: Floats) -> Interval | None:
    """In which B - A lies with 95 %, of redrawn values, NaN left out; None if all are."""
    return _middle(b - a)


def interval_pct(a: Floats, b: Floats) -> Interval | None:
    """In which B - A lies in percent of A with 95 %: each B by the A of its own draw, so that what
    is never below zero falls by at most 100 %. None where an A is 0 and its B is not."""
    change = b - a
    if np.any((a == 0) & (change != 0)):
        return None
    return _middle(np.divide(100 * change, a, out=change.copy(), where=a != 0))


def _middle(change: Floats) -> Interval | None:
    known = change[~np.isnan(change)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
