"""One language for objectives and gates: what it means, what it refuses, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.conditions import Condition, judge, parse_condition, parse_conditions
from profiler.errors import ConditionError
from profiler.folds.quantiles import Quantiles
from profiler.folds.slo import Slo
from profiler.live_metrics import live_value
from profiler.metrics import METRICS, of_quantiles
from profiler.objectives import PRESETS, parse_objectives, request_bounds, written
from profiler.state import SessionState


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft_p99<500ms", Condition("ttft_p99", "<", 500)),
        (" itl_p95 ≤ 0.04 s ", Condition("itl_p95", "<=", 40)),
        ("e2el_max>250us", Condition("e2el_max", ">", 0.25)),
        ("tok_s >= 100", Condition("tok_s", ">=", 100)),
        ("failed_pct>1%", Condition("failed_pct", ">", 1)),
        ("preemptions>0", Condition("preemptions", ">", 0)),
    ],
)
def test_a_condition_is_read_in_the_unit_of_its_metric(text: str, expected: Condition) -> None:
    assert parse_condition(text) == expected


def test_a_change_is_only_read_where_two_runs_are_compared() -> None:
    assert parse_condition("ttft_p99 > +5%", relative=True) == Condition("ttft_p99", ">", 5, True)
    assert parse_condition("tok_s<-3%", relative=True) == Condition("tok_s", "<", -3, True)
    with pytest.raises(ConditionError, match="change in percent"):
        parse_condition("ttft_p99>+5%")


@pytest.mark.parametrize(
    "text",
    ["", ",", "ttft_p99", "ttft_p99<", "ttft_p42<5", "tok_s<5ms", "ttft_p99<5%", "ttft_p99=5",
     "ttft_p99<-5ms", "preemptions>1ms", "ttft_p99<1e3ms"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_conditions(text)


def test_a_name_that_is_nearly_right_is_told() -> None:
    with pytest.raises(ConditionError) as caught:
        parse_condition("tft_p99<5")
    assert caught.value.hint == "did you mean ttft_p99?"


conditions = st.builds(
    Condition,
    st.sampled_from(sorted(METRICS)),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.integers(0, 99_999_999).map(float),
    st.booleans(),
)


@given(st.lists(conditions, min_size=1).map(tuple))
def test_what_is_written_is_read_again(many: tuple[Condition, ...]) -> None:
    assert parse_conditions(written(many), relative=True) == many


@given(conditions, st.floats(-1e6, 1e6))
def test_a_condition_and_its_opposite_never_agree(condition: Condition, value: float) -> None:
    opposite = {"<": ">=", ">=": "<", ">": "<=", "<=": ">"}[condition.op]
    other = Condition(condition.metric, opposite, condition.bound)
    assert condition.holds(value) != other.holds(value)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_read_and_bounds_requests(name: str) -> None:
    objectives = parse_objectives(name)
    assert objectives == parse_objectives(written(objectives))
    slo = request_bounds(objectives)
    assert slo.ttft_ms and slo.tpot_ms and slo.ttft_ms > slo.tpot_ms


def test_a_preset_that_is_nearly_right_is_told() -> None:
    with pytest.raises(ConditionError) as caught:
        parse_objectives("guidellm-chatt")
    assert "guidellm-chat" in caught.value.hint


def test_a_request_is_good_within_the_looser_of_two_bounds() -> None:
    objectives = parse_objectives("ttft_p50<200,ttft_p99<500,itl_p99<40,queue_max<9,tok_s>5")
    assert request_bounds(objectives) == Slo(500, 40, None)


def test_p99_of_too_few_values_is_not_judged() -> None:
    values = of_quantiles("ttft", Quantiles.of([7e6] * 99), 1e6)
    p99, top = judge(parse_conditions("ttft_p99<500,ttft_max<5"), values)
    assert p99.met is None and "needs 100 values" in str(p99)
    assert top.met is False and str(top) == "ttft_max<5ms: 7 ms"


def test_nothing_is_not_zero() -> None:
    assert all(live_value(SessionState(), name) is None for name in METRICS)
