"""Clicks, the wheel and drags: whatever stands on the screen can be reached without a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events as textual_events
from textual.geometry import Offset

from llmtop.app import LlmtopApp
from llmtop.columns import token_cursor
from llmtop.sources.replay import ReplaySource
from profiler.events import AnyEvent

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
