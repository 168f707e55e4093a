"""An interval holds what it claims: the true difference, in about 95 of 100 worlds."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from profiler.compare.bootstrap import Interval, draw, interval, interval_pct
from profiler.compare.sample import GRID, MAX_UNITS, Ratio, Values, units_of
from profiler.compare.verdict import verdict
from profiler.folds.quantiles import Quantiles

WORLDS = 100
N = 80
TRUE_SHIFT = 4.0


# The same draws for every world: a seed decides them, and to make them is what takes time.
cached_draw = lru_cache(draw)


def values_of(values: Any) -> Values:
    found = Values.of(np.asarray(values, float), units_of(len(values)), min(len(values), MAX_UNITS))
    assert found is not None
    return found


def of_difference(a: Values, b: Values, statistic: str, paired: bool) -> Interval:
    draws = cached_draw(len(a.counts), len(b.counts), paired, 0)
    found = interval(a.redrawn(draws[0])[statistic], b.redrawn(draws[1])[statistic])
    assert found is not None
    return found


def share_held(intervals: list[Interval], truth: float) -> float:
    return sum(i.low <= truth <= i.high for i in intervals) / len(intervals)


@pytest.mark.parametrize("statistic", ["mean", "p50", "p90"])
def test_the_true_difference_lies_within_in_about_95_of_100_worlds(statistic: str) -> None:
    rng = np.random.default_rng(1)
    worlds = [
        of_difference(
            values_of(rng.lognormal(3, 0.5, N)),
            values_of(TRUE_SHIFT + rng.lognormal(3, 0.5, N)),
            statistic,
            paired=False,
        )
        for _ in range(WORLDS)
    ]
    assert 0.86 <= share_held(worlds, TRUE_SHIFT)


def test_pairs_hold_the_difference_in_a_much_narrower_interval() -> None:
    rng = np.random.default_rng(2)
    paired, alone = [], []
    for _ in range(WORLDS):
        requests = rng.lognormal(3, 0.8, N)
        a = values_of(requests + rng.normal(0, 1, N))
        b = values_of(requests + TRUE_SHIFT + rng.normal(0, 1, N))
        paired.append(of_difference(a, b, "mean", paired=True))
        alone.append(of_difference(a, b, "mean", paired=False))
    assert 0.86 <= share_held(paired, TRUE_SHIFT)
    widths = [np.mean([i.high - i.low for i in found]) for found in (paired, alone)]
    assert widths[0] < widths[1] / 5


def test_to_draw_tokens_instead_of_requests_would_claim_too_much() -> None:
    """Gaps of one request resemble each other: 24 requests are not five hundred facts."""
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(24, dtype=np.int16), 20)
    by_request, by_token = [], []
    for _ in range(WORLDS):
        first, second = (
            np.round(rng.normal(20, 3, (24, 1)) + rng.normal(0, 1, (24, 20)), 1).ravel()
            for _ in range(2)
        )
        a, b = Values.of(first, units, 24), Values.of(second, units, 24)
        assert a is not None and b is not None
        by_request.append(of_difference(a, b, "mean", paired=False))
        by_token.append(of_difference(values_of(first), values_of(second), "mean", paired=False))
    assert 0.86 <= share_held(by_request, 0.0)
    assert share_held(by_token, 0.0) < 0.7


def test_rates_hold_their_difference_too() -> None:
    rng = np.random.default_rng(4)
    worlds = []
    for _ in range(WORLDS):
        seconds = np.ones(40)
        a, b = (
            Ratio(rng.poisson(100, 40) * 1.0, seconds),
            Ratio(rng.poisson(110, 40) * 1.0, seconds),
        )
        draws = cached_draw(40, 40, False, 0)
        found = interval(a.redrawn(draws[0]), b.redrawn(draws[1]))
        assert found is not None
        worlds.append(found)
    assert 0.86 <= share_held(worlds, 10.0)


def test_what_is_never_below_zero_falls_by_at_most_all_of_it() -> None:
    """One request in twenty is ten times as slow in A: some draws hold many of it, some none."""
    rng = np.random.default_rng(8)
    slow = np.where(np.arange(N) % 20 == 0, 500.0, 50.0)
    a, b = values_of(slow + rng.normal(0, 1, N)), values_of(rng.normal(48, 1, N))
    draws = cached_draw(N, N, False, 0)
    redrawn = a.redrawn(draws[0])["p95"], b.redrawn(draws[1])["p95"]
    found = interval_pct(*redrawn)
    assert found is not None and -100 <= found.low < -85 < found.high < 0
    assert interval_pct(np.zeros(3), np.zeros(3)) == Interval(0, 0)
    assert interval_pct(np.array([0.0, 2.0]), np.array([1.0, 1.0])) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(5)
    a, b = values_of(rng.normal(9, 1, N)), values_of(rng.normal(9, 1, N))
    first = of_difference(a, b, "p95", paired=False)
    assert first == of_difference(a, b, "p95", paired=False)
    assert first.low < first.high


def test_every_draw_in_once_gives_the_exact_quantiles() -> None:
    rng = np.random.default_rng(6)
    for count in (1, 2, 3, 100, 400, GRID):
        values = np.round(rng.lognormal(2, 1, count), 1)
        exact = Quantiles.of(values.tolist())
        found = values_of(values)
        once = found.redrawn(np.ones((1, len(found.counts))))
        for statistic in ("mean", "p50", "p90", "p95"):
            assert getattr(found.exact, statistic) == pytest.approx(getattr(exact, statistic))
            assert once[statistic][0] == pytest.approx(getattr(exact, statistic))


def test_many_values_are_put_on_a_grid_that_is_near_enough() -> None:
    values = np.random.default_rng(7).lognormal(2, 1, 50_000)
    found = values_of(values)
    assert found.counts.shape == (MAX_UNITS, GRID)
    assert found.counts.sum() == len(values)
    once = found.redrawn(np.ones((1, MAX_UNITS)))
    for statistic in ("p50", "p95", "p99"):
        assert once[statistic][0] == pytest.approx(getattr(found.exact, statistic), rel=0.02)


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    units = np.array([0, 1, 2, -1], dtype=np.int16)
    found = Values.of(np.array([5.0, np.nan, 7.0, 9.0]), units, 3)
    assert found is not None and found.exact.n == 2 and found.exact.p50 == 6.0
    assert found.num_units == 2
    assert Values.of(np.array([np.nan]), units[:1], 1) is None
    assert Ratio(np.zeros(3), np.zeros(3)).value is None


def test_a_verdict_needs_an_interval_without_zero() -> None:
    assert verdict("lower", Interval(1, 3)) == "worse"
    assert verdict("lower", Interval(-3, -1)) == "better"
    assert verdict("higher", Interval(1, 3)) == "better"
    assert verdict("higher", Interval(-1, 3)) == "no difference shown"
    assert verdict("lower", Interval(0, 0)) == "no difference shown"
    assert verdict("lower", None) == "too few"
