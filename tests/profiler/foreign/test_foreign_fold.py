"""Rates and spreads between readings: resets, restarts, gaps and edges that change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.events import Buckets, MetricsSample
from profiler.folds.foreign import MOST, MOST_WHOLE
from profiler.foreign.spread import spread_of
from profiler.state import SessionState

S = 1_000_000_000


def told(state: SessionState, second: float, **counters: float) -> None:
    sample = MetricsSample(round(second * S), "vLLM", "m", {}, counters, {})
    state.apply(sample, state.seq + 1)


def test_a_rate_is_the_growth_over_the_time_between_readings() -> None:
    state = SessionState()
    told(state, 10, tokens=1_000_000)
    assert state.foreign.rate("tokens") is None
    told(state, 11, tokens=1_000_400)
    told(state, 13, tokens=1_001_000)
    assert state.foreign.rate("tokens") == pytest.approx(1000 / 3)
    assert state.foreign.rate("others") is None


def test_a_server_that_began_anew_gives_no_negative_rate_and_no_spike() -> None:
    state = SessionState()
    for second, value in enumerate((500, 600, 20, 120)):
        told(state, 10 + second, tokens=value)
    assert state.foreign.rate("tokens") == pytest.approx(100)
    assert [rate for _, rate in state.foreign.rates("tokens")] == [100, None, 100]


@given(st.lists(st.floats(0, 1e12), min_size=2, max_size=30))
def test_no_readings_give_a_negative_rate(values: list[float]) -> None:
    state = SessionState()
    for second, value in enumerate(values):
        told(state, 1 + second, tokens=value)
    rate = state.foreign.rate("tokens")
    assert rate is None or rate >= 0


def test_a_counter_that_comes_and_goes_counts_where_both_readings_have_it() -> None:
    state = SessionState()
    told(state, 10, tokens=5)
    told(state, 11)
    told(state, 12, tokens=50)
    assert state.foreign.rate("tokens") is None
    told(state, 13, tokens=60)
    assert state.foreign.rate("tokens") == pytest.approx(10)


def test_a_picture_grows_stale() -> None:
    state = SessionState()
    told(state, 10, tokens=5)
    assert not state.foreign.is_stale
    state.advance(16 * S)
    assert state.foreign.is_stale


def test_prefix_hits_by_whichever_counters_there_are() -> None:
    state = SessionState()
    told(state, 10, prefix_hits=100, prompt_tokens=100)
    assert state.foreign.prefix_share is None
    told(state, 11, prefix_hits=130, prompt_tokens=170)
    assert state.foreign.prefix_share == pytest.approx(0.3)
    told(state, 12, prefix_hits=130, prompt_tokens=170, prefix_queries=9)
    told(state, 13, prefix_hits=136, prompt_tokens=170, prefix_queries=17)
    assert state.foreign.prefix_share == pytest.approx(36 / 8), "over the newest minute"


def histogram(*counts: float, sum_s: float = 0.0, count: float | None = None) -> Buckets:
    edges = (0.1, 0.2, 0.4)
    return Buckets(edges, counts, counts[-1] if count is None else count, sum_s)


def test_quantiles_lie_between_edges_and_beyond_the_last_one_nothing_is_guessed() -> None:
    spread = spread_of([histogram(0, 0, 0), histogram(50, 90, 98, sum_s=15.0, count=100)])
    assert spread is not None
    assert (spread.n, spread.mean_s) == (100, 0.15)
    middle = spread.quantile(0.5)
    assert middle == (0.0, 0.1, None), "all of them may be next to nothing"
    assert spread.quantile(0.7) == (0.1, 0.2, pytest.approx(0.15))
    high = spread.quantile(0.95)
    assert (high.low_s, high.high_s) == (0.2, 0.4) and high.guess_s == pytest.approx(0.325)
    assert spread.quantile(0.99) == (0.4, None, None)


def test_only_what_came_between_readings_counts() -> None:
    first, second = histogram(1000, 1000, 1000, sum_s=9), histogram(1000, 1004, 1004, sum_s=9.6)
    spread = spread_of([first, second])
    assert spread is not None and spread.n == 4 and spread.mean_s == pytest.approx(0.15)
    assert spread.quantile(0.5).low_s == 0.1
    assert spread_of([first]) is None and spread_of([first, first]) is None


def test_a_restart_and_other_edges_begin_a_new_stretch() -> None:
    spread = spread_of([histogram(5, 5, 5), histogram(1, 1, 1), histogram(1, 3, 3)])
    assert spread is not None and spread.n == 2
    other = Buckets((0.5,), (1,), 1, 0.1)
    assert spread_of([histogram(1, 1, 1), histogram(4, 4, 4), other]) is None


def test_a_keyframe_holds_it_and_old_histograms_are_let_go() -> None:
    state = SessionState()
    for second in range(MOST + 40):
        buckets = {"ttft": histogram(second, second, second)}
        event = MetricsSample(second * S, "vLLM", "m", {"running": 1}, {"tokens": second}, buckets)
        state.apply(event, state.seq + 1)
    again = SessionState.restore(state.keyframe())
    assert list(again.foreign.samples) == list(state.foreign.samples)
    assert len(again.foreign.samples) == MOST
    assert sum(bool(sample.histograms) for sample in again.foreign.samples) == MOST_WHOLE
    assert again.foreign.spread("ttft") == state.foreign.spread("ttft")


def test_what_was_worked_out_is_worked_out_anew_with_the_next_reading() -> None:
    state = SessionState()
    for second in range(3):
        told(state, 10 + second, tokens=100 * second)
        assert state.foreign.growth("tokens") == (100 * second or None)
    rates = state.foreign.rates("tokens")
    assert state.foreign.rates("tokens") is rates, "frames between two readings share it"
    told(state, 13, tokens=900)
    assert [rate for _, rate in state.foreign.rates("tokens")] == [100, 100, 700]
    assert state.foreign.rate("tokens") == pytest.approx(300)
