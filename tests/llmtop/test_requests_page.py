"""The request table and a request's own page."""

from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.columns import itl_p95_ms, token_cursor
from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.keptgaps import KeptGaps
from llmtop.widgets.requesttable import RequestTable
from llmtop.widgets.rows import plain
from llmtop.widgets.service import Service
from profiler.events import AnyEvent, RequestFinished, RequestFirstToken, RequestQueued
from profiler.state import SessionState

TextOf = Callable[[Any], str]


def test_live_requests_stand_first_and_each_part_is_sorted(busy_state: SessionState) -> None:
    model = ViewModel(sort="out", descending=True)
    table = model.table(busy_state)
    num_live = len(busy_state.requests.live)
    assert {r.request for r in table[:num_live]} == set(busy_state.requests.live)
    for part in (table[:num_live], table[num_live:]):
        counts = [r.num_output_tokens for r in part]
        assert counts == sorted(counts, reverse=True)


def test_by_age_the_newest_that_ended_stand_first(busy_state: SessionState) -> None:
    table = ViewModel().table(busy_state)
    ends = [r.t_done_ns for r in table if r.t_done_ns is not None]
    assert len(ends) > 3
    assert ends == sorted(ends, reverse=True)


def test_the_selection_stays_with_its_request(busy_state: SessionState) -> None:
    model = ViewModel(sort="out")
    model.move(busy_state, 1)
    model.move(busy_state, 2)
    chosen = model.selected
    assert chosen == model.table(busy_state)[2].request
    t_ns = busy_state.t_ns
    busy_state.apply(RequestQueued(t_ns, 5000, "new", 10, 10))
    busy_state.apply(RequestFinished(t_ns, model.table(busy_state)[0].request, "stop", 9))
    model.next_sort(1)
    assert model.selected == chosen
    assert chosen in {r.request for r in model.table(busy_state)}


def test_a_filter_that_cannot_be_read_leaves_the_old_one(busy_state: SessionState) -> None:
    model = ViewModel()
    assert model.set_filter("out>100") == ""
    kept = model.table(busy_state)
    assert 0 < len(kept) < len(ViewModel().table(busy_state))
    assert "column" in model.set_filter("out>>")
    assert model.table(busy_state) == kept
    assert model.set_filter("") == ""
    assert model.predicate is None


async def test_typing_a_filter_shows_its_effect_and_esc_takes_it_back(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "slash", *"phase==done")
        await pilot.pause()
        assert app.model.filter_text == "phase==done"
        assert "filter phase==done" in text_of(app)
        await pilot.press("escape")
        assert app.model.filter_text == ""
        await pilot.press("slash", *"out>50", "enter")
        await pilot.pause()
        assert app.model.filter_text == "out>50"
        await pilot.press("escape")
        assert app.model.filter_text == ""


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_an_error_in_the_filter_is_told_while_typing_beside_what_is_typed(
    busy_source: Any, text_of: TextOf, width: int
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.press("2", "slash", *"nofield>1")
        await pilot.pause()
        *above, line = text_of(app).rstrip("\n").splitlines()
        assert line.strip() == "filter / nofield>1"
        told = " ".join(" ".join(above[-3:]).split())
        assert "no field 'nofield'" in told and told.endswith("(column 1)")
        await pilot.press(*["backspace"] * 9)
        await pilot.pause()
        assert "no field" not in text_of(app)


async def test_enter_opens_a_request_and_esc_goes_back(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.press("down", "enter")
        await pilot.pause()
        text = text_of(app)
        chosen = app.model.selected
        assert chosen is not None
        request = busy_source.state.requests.get(chosen)
        assert f"Request {request.name}" in text
        for word in ("Waterfall", "Time between tokens", "the slowest", "batch of 8"):
            assert word in text
        await pilot.press("escape")
        await pilot.pause()
        assert (app.model.page, app.model.detail) == ("overview", False)


async def test_the_token_cursor_starts_at_the_slowest_and_moves(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.press("2", "down", "enter")
        await pilot.pause()
        request = busy_source.state.requests.get(app.model.selected)
        gaps = request.itl_ns
        slowest = token_cursor(request, None)
        assert gaps[slowest - (len(request.token_steps) - len(gaps))] == max(gaps)
        await pilot.press("left")
        await pilot.pause()
        assert app.model.token == slowest - 1
        step = request.token_steps[slowest - 1]
        assert f"Token {slowest} of {len(request.token_steps)}, made by step {step}" in text_of(app)


async def test_sort_and_reverse(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "s")
        await pilot.pause()
        assert "sort id ↓" in text_of(app)
        await pilot.press("S")
        await pilot.pause()
        assert "sort id ↑" in text_of(app)


async def test_a_preemption_is_seen_in_the_table_and_the_waterfall(
    preempted_state: SessionState, source_of: Any, text_of: TextOf
) -> None:
    state = preempted_state
    victim = next(r for r in state.requests.live.values() if r.phase == "preempted")
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.model.selected = victim.request
        await pilot.press("2")
        app.frame()
        await pilot.pause()
        row = next(line for line in text_of(app).split("\n") if line.startswith("│ ▶"))
        assert "preempted" in row and "✖" in row
        await pilot.press("enter")
        await pilot.pause()
        text = text_of(app)
        assert "preempted 1x" in text
        assert "✖ preempted 0.0 ms so far" in text
        lanes = [line.split()[1] for line in text.split("\n") if line.startswith("│ ")][3:]
        assert "preempted" in lanes


async def test_the_selected_request_s_id_goes_to_the_clipboard(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "y")
        assert app.clipboard == "", "nothing is selected yet"
        await pilot.press("j", "y")
        chosen = app.model.selected
        assert chosen is not None
        request = busy_source.state.requests.get(chosen)
        assert app.clipboard == request.name


def test_a_latency_of_minutes_is_told_whole(busy_state: SessionState) -> None:
    """A minute and more in the column's ms would be cut, and read as a tenth of itself."""
    t_ns = busy_state.t_ns
    busy_state.apply(RequestQueued(t_ns, 5000, "slow", 10, 10))
    busy_state.apply(RequestFirstToken(t_ns + 333_487 * 10**6, 5000))
    view = View(busy_state, ViewModel(), "LIVE", Connection("connected"))
    rows = RequestTable(id="t").body(view, 116, 20)
    slow = next(text for text in map(plain, rows) if text.startswith(" slow"))
    assert "5m33" in slow.split()
    ttft = next(plain(row) for row in Service(id="s").body(view, 70, 8) if "ttft" in plain(row))
    assert ttft.split()[-5] == "5m33"


def test_the_kept_gaps_are_those_of_the_instant_that_is_shown(
    events: Callable[..., list[AnyEvent]],
) -> None:
    """Also after a rewind: the table used to show the p95 of what was still to come."""
    told, kept, state = events(6.0), KeptGaps(), SessionState()

    def check(shown: SessionState) -> None:
        requests = [*shown.requests.live.values(), *shown.requests.done]
        assert [kept.p95_ms(r) for r in requests] == [itl_p95_ms(r) for r in requests]

    keyframes = []
    for seq, event in enumerate(told, 1):
        state.apply(event, seq)
        if seq % 100 == 0:
            check(state)
            keyframes.append(state.keyframe())
    assert any(itl_p95_ms(r) for r in state.requests.live.values())
    for keyframe in reversed(keyframes):
        check(SessionState.restore(keyframe))
