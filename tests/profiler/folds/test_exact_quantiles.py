"""Weighted quantiles are those of the values written out."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.folds.histogram import FIRST_TOKEN_S, TOKEN_LATENCY_S, Histogram
from profiler.folds.quantiles import Quantiles
from profiler.folds.window import Window

PAIRS = st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 9)), min_size=1, max_size=60)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_window_equals_the_values_written_out(pairs: list[tuple[int, int]]) -> None:
    window = Window(60)
    for i, (value, weight) in enumerate(pairs):
        window.add(i // 10, value, weight)
    plain = sorted(value for value, weight in pairs for _ in range(weight))
    found = window.quantiles()
    assert found is not None
    assert (found.n, found.max) == (len(plain), plain[-1])
    assert found.mean == pytest.approx(statistics.fmean(plain))
    if len(plain) > 1:
        cuts = statistics.quantiles(plain, n=100, method="inclusive")
        assert found.p50 == pytest.approx(cuts[49])
        assert found.p90 == pytest.approx(cuts[89])
        assert found.p95 == pytest.approx(cuts[94])
    assert (found.p99 is None) == (len(plain) < 100)


def test_window_forgets_by_seconds_and_keeps_the_one_that_runs() -> None:
    window = Window(3)
    for second in range(10, 15):
        window.add(second, second)
        window.trim(second)
    found = window.quantiles()
    assert found is not None and (found.n, found.p50) == (3, 13)
    assert window.of_second(13) == Quantiles(1, 13, 13, 13, 13, None, 13)
    assert window.of_second(11) is None
    window.trim(99)
    assert window.quantiles() is None


LOOKS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 9)), max_size=90),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(LOOKS)
def test_looking_often_gives_what_looking_once_gives(
    looks: list[tuple[list[tuple[int, int]], int]],
) -> None:
    often, second = Window(3), 0
    for values, later in looks:
        second += later
        for value, weight in values:
            often.add(second, value, weight)
        often.trim(second)
        once = Window(3)
        once.thaw(often.freeze())
        assert often.quantiles() == once.quantiles()


def test_window_survives_a_keyframe() -> None:
    window = Window(60)
    for i in range(200):
        window.add(i // 50, 1000 * i, 1 + i % 3)
    copy = Window(60)
    copy.thaw(window.freeze())
    assert copy.quantiles() == window.quantiles()


def test_histogram_counts_an_edge_as_below_it() -> None:
    histogram = Histogram.of((0.1, 0.2))
    for value in (0.1, 0.15, 0.2, 0.3):
        histogram.add(value)
    histogram.add(0.05, weight=3)
    histogram.add_ns(None)
    assert histogram.counts == [4, 2, 1]
    assert histogram.total == pytest.approx(0.9)


def test_edges_hold_vllms_and_go_below_ten_ms() -> None:
    vllm_itl = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    vllm_ttft = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5)
    assert set(vllm_itl) <= set(TOKEN_LATENCY_S)
    assert set(vllm_ttft) <= set(FIRST_TOKEN_S)
    assert sum(edge < 0.01 for edge in TOKEN_LATENCY_S) >= 6
    for edges in (TOKEN_LATENCY_S, FIRST_TOKEN_S):
        assert list(edges) == sorted(set(edges))
