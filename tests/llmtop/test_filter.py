"""The filter language: what it lets through, and what it says of what it cannot read."""

import pytest

from llmtop.columns import FIELDS
from llmtop.filter import FilterError, parse_filter
from profiler.events import RequestAborted
from profiler.state import SessionState


def passed(text: str, state: SessionState) -> set[int]:
    test = parse_filter(text)
    return {n for n, r in state.requests.live.items() if test(r, state.t_ns)}


def test_numbers_compare_in_ms_and_units_convert(busy_state: SessionState) -> None:
    live = busy_state.requests.live
    expected = {n for n, r in live.items() if r.ttft_ns is not None and r.ttft_ns > 20e6}
    assert expected and expected != set(live)
    assert passed("ttft>20", busy_state) == expected
    assert passed("ttft>20ms", busy_state) == expected
    assert passed("ttft>0.02s", busy_state) == expected


def test_words_and_regular_expressions(busy_state: SessionState) -> None:
    live = busy_state.requests.live
    decoding = {n for n, r in live.items() if r.phase == "decode"}
    assert passed("phase==decode", busy_state) == decoding
    assert passed("phase!=decode", busy_state) == set(live) - decoding
    chosen = next(iter(live.values()))
    assert passed(f"id~{chosen.name[-3:]}$", busy_state) == {chosen.request}
    assert chosen.request not in passed(f"id!~{chosen.name[-3:]}$", busy_state)


def test_and_binds_tighter_than_or_and_brackets_tighter_than_both(busy_state: SessionState) -> None:
    everything = set(busy_state.requests.live)
    assert passed("out>=0 | phase==done & phase==queued", busy_state) == everything
    assert passed("(out>=0 | phase==done) & phase==queued", busy_state) == passed(
        "phase==queued", busy_state
    )
    assert passed("!(out>=0)", busy_state) == set()


def test_a_value_that_is_not_there_matches_no_comparison(empty_state: SessionState) -> None:
    assert parse_filter("ttft>0") and passed("ttft>0", empty_state) == set()


@pytest.mark.parametrize(
    ("text", "word", "position"),
    [
        ("", "a field", 0),
        ("ttft", "one of", 4),
        ("ttft>", "a value", 5),
        ("ttft>fast", "a number", 5),
        ("colour==red", "no field", 0),
        ("phase>decode", "words", 6),
        ("id~(", "regular expression", 3),
        ("(out>1", "expected )", 6),
        ("out>1 out<5", "expected & or |", 6),
        ('id=="a', "quote", 4),
        ("x" * 501, "longer", 500),
    ],
)
def test_an_error_says_what_was_expected_and_where(text: str, word: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert word in caught.value.message
    assert caught.value.position == position


def test_what_ended_without_an_answer_is_found_by_its_phase_and_by_its_reason(
    busy_state: SessionState,
) -> None:
    one, other = list(busy_state.requests.live)[:2]
    busy_state.apply(RequestAborted(busy_state.t_ns, one, "disconnect", 3))
    busy_state.apply(RequestAborted(busy_state.t_ns, other, "error: upstream", 3))

    def ended(text: str) -> set[int]:
        test = parse_filter(text)
        return {r.request for r in busy_state.requests.done if test(r, busy_state.t_ns)}

    assert {one, other} <= ended("phase==aborted")
    assert not {one, other} & ended("phase==done")
    assert one in ended("finish==disconnect") and other in ended("finish~error")
    assert {"disconnect", "error"} <= set(FIELDS["finish"].help.split())
