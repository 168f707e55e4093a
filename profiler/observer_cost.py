"""What being observed costs a step, out of turns with and without."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from profiler.compare.bootstrap import LEVEL, NUM_DRAWS, Floats, Interval
from profiler.events import TURN_STEPS, ObserverCost, ObserverTurn

# The median lies between the least and the greatest of so many pairs with 97 %, of five with 94 %.
MIN_PAIRS: Final = 6


class CostEstimate(NamedTuple):
    """`unobserved_ns` and `observed_ns` are medians over turns of a turn's mean step. `cost_ns` is
    the median over pairs of what a step took longer in the observed turn, `share` the same as a
    part of the observed step, each with its 95 % interval."""

    num_pairs: int
    unobserved_steps: int
    observed_steps: int
    unobserved_ns: float
    observed_ns: float
    cost_ns: float
    cost_interval_ns: Interval
    share: float
    share_interval: Interval


def pairs_of(event: ObserverCost) -> list[tuple[ObserverTurn, ObserverTurn]]:
    """The neighbours (unobserved, observed) of which both have steps enough."""
    found = []
    for pair in zip(event.turns[::2], event.turns[1::2], strict=False):
        if min(turn.num_steps for turn in pair) >= TURN_STEPS:
            first, second = sorted(pair, key=lambda turn: turn.observed)
            found.append((first, second))
    return found


def estimate(event: ObserverCost) -> CostEstimate | None:
    """None of too few pairs. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993),
    chapter 13, percentile intervals; pairs are drawn."""
    pairs = pairs_of(event)
    if len(pairs) < MIN_PAIRS:
        return None
    means = np.array([[turn.steps_ns / turn.num_steps for turn in pair] for pair in pairs])
    off, on = means.T
    cost, share = on - off, (on - off) / on
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(pairs), size=(NUM_DRAWS, len(pairs)))
    return CostEstimate(
        len(pairs),
        sum(turn.num_steps for turn, _ in pairs),
        sum(turn.num_steps for _, turn in pairs),
        float(np.median(off)),
        float(np.median(on)),
        float(np.median(cost)),
        _interval(np.median(cost[drawn], axis=1)),
        float(np.median(share)),
        _interval(np.median(share[drawn], axis=1)),
    )


def _interval(medians: Floats) -> Interval:
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
