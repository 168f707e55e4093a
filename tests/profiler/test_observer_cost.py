"""What a measurement of the cost of observing says, and when it says nothing."""

from __future__ import annotations

import random

import pytest

from profiler.events import TURN_STEPS, ObserverCost, ObserverTurn
from profiler.observer_cost import MIN_PAIRS, estimate, pairs_of
from profiler.state import SessionState

MS = 1_000_000
ORDER = (False, True, True, False)


def measured(off_ms: list[float], on_ms: list[float], num_steps: int = 10) -> ObserverCost:
    """One with these means, turn by turn."""
    means = {False: iter(off_ms), True: iter(on_ms)}
    turns = [
        ObserverTurn(observed, num_steps, round(next(means[observed]) * MS) * num_steps)
        for observed in (ORDER * len(off_ms))[: 2 * len(off_ms)]
    ]
    return ObserverCost(1, 0, "done", tuple(turns))


def test_a_cost_that_is_always_the_same_is_known_exactly() -> None:
    found = estimate(measured([20.0] * 12, [25.0] * 12))
    assert found is not None
    assert (found.num_pairs, found.unobserved_steps, found.observed_steps) == (12, 120, 120)
    assert (found.unobserved_ns, found.observed_ns) == (20 * MS, 25 * MS)
    assert found.cost_ns == 5 * MS and found.cost_interval_ns == (5 * MS, 5 * MS)
    assert found.share == pytest.approx(0.2) and found.share_interval.low > 0


def test_drift_is_no_cost() -> None:
    drifting = [20 + i / 10 for i in range(24)]
    off = [ms for i, ms in enumerate(drifting) if not ORDER[i % 4]]
    on = [ms for i, ms in enumerate(drifting) if ORDER[i % 4]]
    found = estimate(measured(off, on))
    assert found is not None
    assert found.cost_ns == pytest.approx(0, abs=1)
    assert found.share_interval.low <= 0 <= found.share_interval.high


@pytest.mark.parametrize("cost_ms", [0.0, 3.0])
def test_the_interval_holds_the_truth_mostly(cost_ms: float) -> None:
    rng, held = random.Random(7), 0
    for _ in range(200):
        off = [rng.gauss(20, 1) for _ in range(12)]
        found = estimate(measured(off, [rng.gauss(20 + cost_ms, 1) for _ in range(12)]))
        assert found is not None
        low, high = found.cost_interval_ns
        held += low <= cost_ms * MS <= high
    assert held >= 180


def test_too_little_says_nothing() -> None:
    enough = [20.0] * MIN_PAIRS
    assert estimate(measured(enough, enough)) is not None
    assert estimate(measured(enough[1:], enough[1:])) is None
    assert estimate(measured(enough, enough, TURN_STEPS - 1)) is None
    assert estimate(ObserverCost(1, 0, "idle", ())) is None
    one_too_few = measured(enough, enough)
    turns = (ObserverTurn(False, TURN_STEPS - 1, 80 * MS), *one_too_few.turns[1:])
    assert len(pairs_of(ObserverCost(1, 0, "done", turns))) == MIN_PAIRS - 1
    odd = ObserverCost(1, 0, "observed", one_too_few.turns[:-1])
    assert len(pairs_of(odd)) == MIN_PAIRS - 1


@pytest.mark.parametrize("status", ["observed", "unobserved", "done", "idle"])
def test_a_state_knows_the_newest_word_and_keeps_it_in_its_keyframe(status: str) -> None:
    state = SessionState()
    event = ObserverCost(5, 1, status, (ObserverTurn(False, 3, 9),))
    state.apply(event, 1)
    again = SessionState.restore(state.keyframe())
    assert again.observing.last == event
    assert again.observing.is_late == (status == "unobserved")
    assert again.observing.is_under_way == (status in ("observed", "unobserved"))
