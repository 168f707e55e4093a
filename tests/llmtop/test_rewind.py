"""Back in time while the server goes on: keys, title, bar and mouse, on a live source's ring."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.rewind import Rewind
from llmtop.widgets.replaybar import ReplayBar
from profiler.events import AnyEvent, Log
from profiler.session.reader import SessionReader
from profiler.session.ring import Ring
from profiler.state import SessionState

S = 1_000_000_000
Events = Callable[..., list[AnyEvent]]
TextOf = Callable[[Any], str]


@pytest.fixture
def told(events: Events) -> list[AnyEvent]:
    return events(14.0)


@pytest.fixture
def source(source_of: Any, told: list[AnyEvent]) -> Any:
    """A live source that was watched from its first event on."""
    source = source_of(SessionState())
    source.feed(told)
    return source


def shown(app: LlmtopApp) -> SessionState:
    return app._picture.take(0).state


async def test_keys_go_back_live_and_one_key_returns(source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        live_ns = source.state.t_ns
        for keys, title, behind_ns in (
            ([","], "◀ REWIND -00:00:10", 10 * S),
            (["g", *"-12s", "enter"], "◀ REWIND -00:00:12", 12 * S),
            (["g", *"0:04", "enter"], "◀ REWIND -00:00:10", 10 * S + S // 2),
        ):
            await pilot.press(*keys)
            await pilot.pause()
            assert title in text_of(app)
            assert abs(live_ns - behind_ns - shown(app).t_ns) < S // 2
        before = source.ring.state_at(shown(app).t_ns)
        assert shown(app).keyframe() == before.keyframe()
        source.feed([Log(live_ns + 2 * S, "info", "server", "meanwhile")])
        app.frame()
        await pilot.pause()
        assert "REWIND -00:00:12" in text_of(app), "collecting went on"
        assert shown(app).t_ns == before.t_ns
        await pilot.press("space")
        await pilot.pause()
        assert "● LIVE" in text_of(app) and shown(app) is source.state


async def test_moving_beyond_the_newest_event_is_live_again(source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        await pilot.press(",", ".", ".")
        await pilot.pause()
        assert "● LIVE" in text_of(app)


async def test_steps_of_the_engine_one_by_one(source: Any) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(80, 24)) as pilot:
        app.frame()
        newest = source.state.steps.last.step
        numbers = []
        for key in ("[", "[", "[", "]", "]", "]"):
            await pilot.press({"[": "left_square_bracket", "]": "right_square_bracket"}[key])
            last = shown(app).steps.last
            assert last is not None
            numbers.append(last.step - newest)
        assert numbers == [-1, -2, -3, -2, -1, 0]


async def test_markers_and_bookmarks(source: Any, told: list[AnyEvent], text_of: TextOf) -> None:
    source.feed([Log(source.state.t_ns + S, "warning", "core", "the queue is long")])
    warned_ns = source.state.t_ns
    source.feed([Log(warned_ns + 2 * S, "info", "core", "all is well")])
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        await pilot.press("left_curly_bracket")
        await pilot.pause()
        assert shown(app).t_ns == warned_ns
        assert "▲ warning: the queue is long" in text_of(app)
        await pilot.press("comma", "b", "full_stop", "left_curly_bracket")
        await pilot.pause()
        assert shown(app).t_ns == warned_ns - 10 * S
        assert "⚑ bookmark: step" in text_of(app)


async def test_the_bar_is_pressed_and_drawn(source: Any) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        bar = app.screen.query_one(ReplayBar)
        assert not bar.display
        await pilot.press("space")
        await pilot.pause()
        assert bar.display
        start_ns, end_ns = source.ring.start_ns, source.state.t_ns
        await pilot.mouse_down(ReplayBar, offset=(2 + 29, 1))
        await pilot.pause()
        assert abs(shown(app).t_ns - (start_ns + (end_ns - start_ns) // 4)) < S // 5
        await pilot.hover(ReplayBar, offset=(2 + 58, 1))
        await pilot.pause()
        assert abs(shown(app).t_ns - (start_ns + (end_ns - start_ns) // 2)) < S // 5
        await pilot.mouse_up(ReplayBar, offset=(2 + 58, 1))
        await pilot.hover(ReplayBar, offset=(2 + 10, 1))
        await pilot.pause()
        assert abs(shown(app).t_ns - (start_ns + (end_ns - start_ns) // 2)) < S // 5


def test_the_held_picture_is_the_one_that_was_shown(source: Any) -> None:
    rewind = Rewind(source.ring, lambda: None)
    before = rewind.show(source.state).keyframe()
    rewind.toggle()
    source.feed([Log(source.state.t_ns + S, "info", "x", "later")])
    assert rewind.show(source.state).keyframe() == before
    assert rewind.behind_ns == S
    assert source.ring.pinned
    rewind.toggle()
    assert rewind.show(source.state) is source.state and not source.ring.pinned


def test_places_outside_of_the_ring_are_said(source: Any) -> None:
    rewind = Rewind(source.ring, lambda: None)
    rewind.show(source.state)
    assert rewind.go_to("9:59:59") == "there is 00:00:00 to 00:00:14"
    assert rewind.go_to("-5m").startswith("write ")
    assert rewind.go_to("100%") == ""


def test_after_a_new_beginning_moves_start_from_what_is_live(source: Any, events: Events) -> None:
    rewind = Rewind(source.ring, lambda: None)
    rewind.show(source.state)
    rewind.nudge(-5 * S)
    held = rewind.show(source.state).keyframe()
    restarted = SessionState()
    for seq, event in enumerate(events(3.0, seed=1), 1):
        restarted.apply(event, seq)
    source.ring.begin(restarted)
    assert rewind.show(restarted).keyframe() == held
    rewind.step(-1)
    assert rewind.show(restarted).t_ns <= restarted.t_ns
    assert rewind.show(restarted).session == restarted.session


async def test_tabs_that_are_not_seen_keep_no_state(source: Any) -> None:
    app = LlmtopApp(source)
    seen: list[weakref.ref[SessionState]] = []
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        for tab in "12345671":
            await pilot.press(tab, "[")
            await pilot.pause()
            seen.append(weakref.ref(shown(app)))
        assert len({id(state()) for state in seen}) > 1
        gc.collect()
        assert [state() is shown(app) for state in seen if state() is not None] == [True]


def test_bookmarks_wait_for_a_file(
    source: Any, record: Any, tmp_path: Path, told: list[AnyEvent]
) -> None:
    path: list[Path | None] = [None]
    rewind = Rewind(source.ring, lambda: path[0])
    rewind.show(source.state)
    rewind.nudge(-5 * S)
    marked_ns = rewind.show(source.state).t_ns
    assert "recording keeps it" in rewind.bookmark()
    path[0] = record(tmp_path / "s.db", told)
    rewind.show(source.state)
    reader = SessionReader(path[0])
    assert [m.t_ns for m in reader.markers() if m.glyph == "⚑"] == [marked_ns]
    reader.close()


def test_before_anything_arrived_no_key_does_harm() -> None:
    rewind, nothing = Rewind(Ring(), lambda: None), SessionState()
    rewind.show(nothing)
    assert "write" in rewind.go_to("soon")
    assert rewind.playback is None, "a place that is none leaves it live"
    for move in (rewind.toggle, lambda: rewind.step(-1), lambda: rewind.mark(-1)):
        move()
    rewind.nudge(-S)
    assert rewind.show(nothing).keyframe() == nothing.keyframe()
    rewind.nudge(S)
    assert rewind.show(nothing) is nothing
