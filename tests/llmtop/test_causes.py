"""Parts of a time on the screen: each with a glyph, none lost, nothing raw from elsewhere."""

import pytest

from llmtop.widgets.causes import (
    MARKS,
    cause_bar,
    cause_row,
    explained_line,
    explained_rows,
    request_name,
)
from llmtop.widgets.rows import plain, width_of
from profiler.events import RequestQueued
from profiler.explain.parts import CAUSES, Explanation, Part, StepParts
from profiler.state import SessionState

MS = 1_000_000


def explanation(*parts: Part) -> Explanation:
    return Explanation(0, sum(part.ns for part in parts), (StepParts(1, parts),))


SLOW = explanation(
    Part("own", 12 * MS, estimated=True),
    Part("prefill", 31 * MS, 7, 1024, estimated=True),
    Part("host", round(1.4 * MS)),
    Part("idle", 20_000),
)


@pytest.fixture
def state() -> SessionState:
    state = SessionState()
    state.apply(RequestQueued(1, 7, "chatcmpl-\x1b[31mred\x1b[0m", 10, 10))
    return state


def test_every_cause_has_its_own_look() -> None:
    assert set(MARKS) == set(CAUSES)
    apart = [MARKS[c] for c in CAUSES if c not in ("own", "decode")]
    assert len(set(apart)) == len(apart)


def test_parts_read_as_a_sum(state: SessionState) -> None:
    (row,) = explained_rows(SLOW, state, 200)
    assert plain(row) == "44.4 ms = █ own ~12.0 + ▒ prefill of red ~31.0 (1 024 tok) + ▚ host 1.4"


@pytest.mark.parametrize("width", [20, 40, 60, 90])
def test_lines_wrap_between_parts_and_lose_none(state: SessionState, width: int) -> None:
    rows = explained_rows(SLOW, state, width)
    assert " ".join(plain(row) for row in rows) == plain(explained_rows(SLOW, state, 200)[0])
    assert all(width_of(row) <= max(width, 36) for row in rows)


def test_one_line_begins_with_the_longest_part_and_tells_of_more(
    state: SessionState,
) -> None:
    short = plain(explained_line(SLOW, state, 50))
    assert short == "44.4 ms = ▒ prefill of red ~31.0 (1 024 tok) + …"
    assert "…" not in plain(explained_line(SLOW, state, 120))


@pytest.mark.parametrize("width", [1, 5, 40, 116])
def test_the_bar_is_full_and_shows_what_is_large(width: int) -> None:
    row = cause_bar(SLOW.parts, width)
    assert width_of(row) == width
    if width >= 40:
        cells = plain(row)
        assert cells.count("▒") / width == pytest.approx(31 / 44.4, abs=0.06)
        assert "▚" in cells


def test_names_are_clean_and_forgotten_ones_are_numbers(state: SessionState) -> None:
    assert request_name(state, 7) == "red"
    assert request_name(state, 8) == "#8"
    reason = Part("clock", MS, detail="hot\x1b]0;x\x07")
    assert "\x1b" not in plain(cause_row(reason, state))
