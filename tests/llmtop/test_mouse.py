"""Clicks, the wheel and drags: whatever stands on the screen can be reached without a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events as textual_events
from textual.geometry import Offset

from llmtop.app import LlmtopApp
from llmtop.columns import slowest_tokens, token_cursor
from llmtop.sources.replay import ReplaySource
from llmtop.widgets.rows import plain
from profiler.events import AnyEvent, Finding
from profiler.state import SessionState

S = 1_000_000_000
TextOf = Callable[[Any], str]


async def wheel(app: LlmtopApp, pilot: Any, selector: str, notches: int) -> None:
    """Turned over the middle of a widget; down is positive."""
    kinds = (textual_events.MouseScrollUp, textual_events.MouseScrollDown)
    x, y = app.screen.query_one(selector).region.center
    for _ in range(abs(notches)):
        event = kinds[notches > 0](None, x, y, 0, 0, 0, False, False, False, x, y)
        app.post_message(event)
        await pilot.pause()


async def click(pilot: Any, selector: str, x: int, y: int) -> None:
    await pilot.click(selector, offset=(x, y))
    await pilot.pause()


async def test_the_wheel_moves_what_it_is_over(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("2")
        await wheel(app, pilot, "#requests-table", 3)
        shown = [view.request for view in app.model.table(busy_source.state)]
        assert app.model.selected == shown[2]
        await wheel(app, pilot, "#requests-table", -1)
        assert app.model.selected == shown[1]
        await pilot.press("3")
        await wheel(app, pilot, "#kv-map", 1)
        line = app.model.cursor_page
        assert line > 1
        await wheel(app, pilot, "#kv-holders", 1)  # nothing to move there
        assert app.model.cursor_page == line
        await pilot.press("5")
        newest = busy_source.state.steps.last.step
        await wheel(app, pilot, "#steps-columns", -2)
        assert app.model.step == newest - 2
        await pilot.press("6")
        await wheel(app, pilot, "#log-lines", -1)
        assert app.model.log_until_ns is not None


async def test_a_click_chooses_and_a_second_one_opens(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("3")
        await click(pilot, "#kv-holders", 6, 3)
        chosen = app.model.selected
        assert chosen is not None and app.model.page == "kv"
        await click(pilot, "#kv-holders", 6, 3)
        assert (app.model.page, app.model.detail) == ("requests", True)
        await click(pilot, "#request-tokens", 2 + 10, 2)
        request = busy_source.state.requests.get(chosen)
        early = token_cursor(request, app.model.token)
        await click(pilot, "#request-tokens", 2 + 20, 2)
        assert 0 < early < token_cursor(request, app.model.token)
        await click(pilot, "#tabs", 3, 0)
        assert app.model.page == "overview"


async def test_a_click_on_a_finding_goes_where_it_leads(busy_source: Any) -> None:
    state = busy_source.state
    request, step = min(state.requests.live), state.steps.last.step
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        busy_source.feed(
            [
                found(state, 1, "about nothing"),
                found(state, 2, "about a step", step=step),
                found(state, 3, "about a request", request=request),
            ]
        )
        app.frame()
        await click(pilot, "#overview-log", 30, 3)
        assert app.model.page == "overview"
        await click(pilot, "#overview-log", 30, 1)
        assert (app.model.selected, app.model.page, app.model.detail) == (request, "requests", True)
        assert app.screen.query_one("#request-life").visible
        await pilot.press("escape", "escape")
        await click(pilot, "#overview-log", 30, 2)
        assert (app.model.page, app.model.step) == ("steps", step)
        await pilot.press("6")
        await pilot.pause()
        rows = [plain(app.screen.query_one("#log-lines").row(y)) for y in range(37)]
        line = next(y for y, row in enumerate(rows) if "about a request" in row)
        await click(pilot, "#log-lines", 30, line)
        assert (app.model.page, app.model.detail) == ("requests", True)


def found(state: SessionState, number: int, text: str, **about: int) -> Finding:
    since_ns = state.t_ns + number
    return Finding(since_ns, number, "rule", "warning", "open", since_ns, text, **about)


async def test_a_click_on_a_slow_token_explains_it_and_a_second_one_opens_its_step(
    busy_source: Any,
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("2")
        await click(pilot, "#requests-table", 6, 3)
        await pilot.press("enter")
        await pilot.pause()
        request = busy_source.state.requests.get(app.model.selected)
        slowest = slowest_tokens(request, 3)
        await click(pilot, "#request-slow", 20, 2)
        assert app.model.token == slowest[1]
        title = plain(app.screen.query_one("#request-step").row(0))
        assert f"Token {slowest[1] + 1} of" in title
        await click(pilot, "#request-slow", 20, 5)  # below the last one
        assert app.model.page == "requests"
        await click(pilot, "#request-slow", 20, 2)
        assert (app.model.page, app.model.step) == ("steps", request.token_steps[slowest[1]])


async def test_a_click_on_a_log_line_goes_to_its_time(
    tmp_path: Path,
    events: Callable[..., list[AnyEvent]],
    record: Callable[[Path, list[AnyEvent]], Path],
) -> None:
    source = ReplaySource(record(tmp_path / "session.db", events(8.0)), at="90%")
    source.toggle()
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("6")
        await pilot.pause()
        app.frame()
        await pilot.pause()
        before_ns = source.replay.playback.t_ns
        await click(pilot, "#log-lines", 30, 2)
        assert source.replay.playback.t_ns < before_ns
    source.stop()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_time_bar_is_dragged_and_turned(
    size: tuple[int, int],
    tmp_path: Path,
    events: Callable[..., list[AnyEvent]],
    record: Callable[[Path, list[AnyEvent]], Path],
) -> None:
    source = ReplaySource(record(tmp_path / "session.db", events(8.0)), at="50%")
    source.toggle()
    app = LlmtopApp(source)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        bar = app.screen.query_one("#replay").region
        start, half = source.replay.playback.start_ns, source.replay.playback.t_ns
        await pilot.mouse_down(offset=Offset(bar.x + bar.width // 2, bar.y + 1))
        await pilot.hover(offset=Offset(bar.x + bar.width // 4, bar.y + 1))
        await pilot.mouse_up(offset=Offset(bar.x + bar.width // 4, bar.y + 1))
        await pilot.pause()
        quarter = source.replay.playback.t_ns
        assert start < quarter < half
        await pilot.hover(offset=Offset(bar.x + bar.width - 5, bar.y + 1))
        assert source.replay.playback.t_ns == quarter  # the button is up
        await wheel(app, pilot, "#replay", 1)
        assert source.replay.playback.t_ns == min(quarter + S, source.replay.playback.end_ns)
        await click(pilot, "#footer", 20, 0)
    source.stop()
