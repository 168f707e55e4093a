"""The Log tab: nothing of a line is lost, and nothing in it reaches the terminal as a command."""

import asyncio
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from llmtop.app import LlmtopApp
from llmtop.journal import journal
from llmtop.viewmodel import ViewModel
from llmtop.widgets.loglines import last_shown, log_rows, matching, scrolled
from llmtop.widgets.rows import plain, width_of
from profiler.events import Log, Phase, RequestAborted
from profiler.state import SessionState

TextOf = Callable[[Any], str]
S = 1_000_000_000
LINES = [Log(i * S, level, "core", f"line {i}") for i, level in enumerate(
    ["info", "debug", "warning", "info", "error", "notice", "info"]
)]  # fmt: skip


def texts(model: ViewModel) -> list[str]:
    return [line.text for line in matching(LINES, model)]


def test_a_level_shows_itself_and_what_is_worse() -> None:
    assert texts(ViewModel(log_level="debug")) == [line.text for line in LINES]
    assert texts(ViewModel(log_level="warning")) == ["line 2", "line 4", "line 5"]


def test_the_filter_is_a_regular_expression_over_the_whole_line() -> None:
    model = ViewModel(log_level="debug")
    assert model.set_log_filter("LINE [35]|warning") == ""
    assert texts(model) == ["line 2", "line 3", "line 5"]
    assert "not a regular expression" in model.set_log_filter("(")
    # A space that is repeated is one, but not what is left of it without spaces around.
    assert "not a regular expression" in model.set_log_filter(" +")
    assert model.log_filter == "LINE [35]|warning"


def test_a_scrolled_log_stands_still_while_lines_come() -> None:
    until_ns = scrolled(LINES, None, -2)
    assert until_ns is not None and LINES[last_shown(LINES, until_ns)].text == "line 4"
    more = [*LINES, Log(9 * S, "info", "core", "line 9")]
    assert more[last_shown(more, until_ns)].text == "line 4"
    assert scrolled(more, until_ns, 3) is None
    assert scrolled(LINES, None, -1_000_000) == 0


def test_lines_of_one_instant_are_no_trap() -> None:
    same = [Log(S, "info", "core", "a"), Log(2 * S, "info", "core", "b")]
    same += [Log(2 * S, "info", "core", "c")]
    assert scrolled(same, None, -1) == S


def test_a_long_line_goes_on_below_with_all_of_its_words() -> None:
    text = "wörter " * 30 + "結果が出ました"
    rows = log_rows(Log(0, "warning", "core", text), "12:00:00.000", 60)
    assert len(rows) > 3
    assert all(width_of(row) <= 60 for row in rows)
    assert "".join(row[-1][0] for row in rows).replace(" ", "") == text.replace(" ", "")


def test_control_characters_do_not_get_through() -> None:
    evil = Log(0, "in\x1b[31mfo", "co\x07re", "a\x1b]0;title\x07b\x9b31mc\nd\u202ee")
    text = "".join(plain(row) for row in log_rows(evil, "12:00:00.000", 80))
    assert text.isprintable()
    assert "title" not in text


async def until(pilot: Pilot[Any], true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            pilot.app.frame()
            await pilot.pause()


async def test_scrolling_following_and_filtering_by_keys(busy_source: Any, text_of: TextOf) -> None:
    state: SessionState = busy_source.state
    now = state.t_ns
    busy_source.feed([Log(now + i, "info", "core", f"number {i:03d}") for i in range(1, 100)])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6")
        app.frame()
        await pilot.pause()
        assert "number 099" in text_of(app) and "following" in text_of(app)
        await pilot.press("pageup")
        await pilot.pause()
        assert "number 099" not in text_of(app) and "10 newer" in text_of(app)
        busy_source.feed([Log(now + 200, "error", "core", "it broke")])
        app.frame()
        await pilot.pause()
        assert "it broke" not in text_of(app) and "11 newer" in text_of(app)
        await pilot.press("end")
        await pilot.pause()
        assert "it broke" in text_of(app)
        await pilot.press("v", "v")
        await pilot.pause()
        assert "error and above" in text_of(app) and "number" not in text_of(app)


async def test_the_log_has_a_filter_of_its_own(busy_source: Any, text_of: TextOf) -> None:
    busy_source.feed([Log(busy_source.state.t_ns + 1, "info", "core", "something else")])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("6", "slash", *"else", "enter")
        await until(pilot, lambda: app.model.log_filter == "else" and app.focused is None)
        await until(pilot, lambda: "ready on" not in text_of(app))
        assert "something else" in text_of(app)
        assert app.model.filter_text == ""
        await pilot.press("escape")
        await until(pilot, lambda: app.model.log_filter == "")


def test_the_journal_puts_everything_on_one_clock(busy_state: SessionState) -> None:
    busy_state.apply(Log(busy_state.t_ns, "warning", "core", "the newest"))
    entries = journal(busy_state)
    assert [entry.t_ns for entry in entries] == sorted(entry.t_ns for entry in entries)
    words = "\n".join(f"{entry.source} {entry.text}" for entry in entries)
    assert "engine load 272 tensors in 0.4s" in words
    assert "server ready on http://127.0.0.1:8000" in words
    assert " length: " in words and "ttft" in words
    assert entries[-1].text == "the newest"
    assert journal(busy_state, 5) == entries[-5:]


def test_being_ready_is_told_when_it_began_and_is_not_said_to_have_taken_so_long() -> None:
    state = SessionState()
    for event in (Phase(S, "load"), Phase(3 * S, "ready"), Phase(60 * S, "drain")):
        state.apply(event)
    told = [(entry.t_ns, entry.text) for entry in journal(state)]
    assert told == [(3 * S, "load in 2.0s"), (3 * S, "ready"), (60 * S, "drain")]


def test_a_request_that_was_aborted_is_a_warning(busy_state: SessionState) -> None:
    request = next(iter(busy_state.requests.live))
    busy_state.apply(RequestAborted(busy_state.t_ns, request, "disconnect", 3))
    assert journal(busy_state)[-1].level == "warning"


async def test_enter_takes_the_time_cursor_to_the_line(busy_source: Any) -> None:
    """The same instant on every tab, and the line's own."""
    t_ns = busy_source.state.t_ns
    busy_source.feed([Log(t_ns + S, "warning", "core", "look here")])
    busy_source.feed([Log(t_ns + 4 * S, "info", "core", "later")])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        await pilot.press("6")
        app.model.set_log_filter("look here")
        await pilot.press("enter")
        await pilot.pause()
        for tab in "12346":
            await pilot.press(tab)
            view = app._picture.take(0)
            assert view.state.t_ns == t_ns + S and view.behind_ns == 3 * S


async def test_lines_of_the_selected_request_stand_out(busy_source: Any) -> None:
    done = busy_source.state.requests.done[-1]
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.model.selected = done.request
        await pilot.press("6")
        app.frame()
        await pilot.pause()
        lines = app.screen.query_one("#log-lines")
        rows = [lines.row(y) for y in range(lines.size.height)]
        chosen = [row for row in rows if any(role == "select" for _, role in row)]
        assert len(chosen) == 1 and done.name.removeprefix("cmpl-") in plain(chosen[0])
