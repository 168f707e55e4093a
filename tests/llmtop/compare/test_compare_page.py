"""The Compare tab of the dashboard: the session on the screen held against a recording."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.cli import main
from llmtop.compare.onscreen import Sides
from llmtop.compare.words import refusal
from llmtop.keys import KEYS, Keymap
from llmtop.sanitize import clean_line
from llmtop.screens import compare_page
from llmtop.screens.compare_page import ComparePage
from llmtop.sources.replay import ReplaySource
from llmtop.viewing import Viewing
from llmtop.widgets.compareworst import CompareWorst
from llmtop.widgets.helptext import panel_rows
from llmtop.widgets.rows import plain
from profiler.bus import Bus
from profiler.compare.comparison import compare
from profiler.compare.run import read_run
from profiler.events import AnyEvent
from profiler.follower import Follower
from profiler.session.listing import session_info
from profiler.session.recorder import Recorder
from profiler.state import SessionState

TextOf = Callable[[Any], str]
Events = Callable[..., list[AnyEvent]]
SIZES = [(80, 24), (120, 40)]


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this machine's recordings, empty."""
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    folder = tmp_path / "data" / "sessions"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def replayed(sessions: Path, base: Path, few_pages: Path) -> Path:
    """The file on the screen; another, older one lies beside it."""
    shutil.copy(base, sessions / "20260101-100000-base.db")
    return Path(shutil.copy(few_pages, sessions / "20260102-100000-few.db"))


async def until(app: LlmtopApp, pilot: Any, said: str, text_of: TextOf) -> str:
    """The screen once it says `said`."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        await pilot.pause(0.02)
        text = text_of(app)
        if said in text:
            return text
    raise AssertionError(f"{said!r} never came:\n{text_of(app)}")


async def compared(app: LlmtopApp, pilot: Any, text_of: TextOf) -> str:
    """The board, once the second recording of the list is chosen."""
    await pilot.press("7")
    await until(app, pilot, "Enter compares", text_of)
    await pilot.press("j", "enter")
    return await until(app, pilot, "Requests slower by most", text_of)


def said(app: LlmtopApp) -> list[str]:
    return [notification.message for notification in app._notifications]


def replay_of(path: Path, **options: Any) -> LlmtopApp:
    return LlmtopApp(ReplaySource(path), **options)


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_is_of_all_recordings_newest_first(
    replayed: Path, size: tuple[int, int], text_of: TextOf
) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=size) as pilot:
        await pilot.press("7")
        lines = (await until(app, pilot, "2, Enter compares", text_of)).splitlines()
        assert len(lines) == size[1]
        assert " 7 Compare " in lines[1]
        assert "B is the recording on the screen, 20260102-100000-few.db" in lines[3]
        assert "began" in lines[4] and "requests" in lines[4]
        assert "▶" in lines[5] and "● on screen" in lines[5] and " 120 " in lines[5]
        assert "tiny" in lines[6] and "on screen" not in lines[6]
        assert ("20260101-100000-base" in lines[6]) == (size[0] >= 100)


@pytest.mark.parametrize("size", SIZES)
async def test_enter_holds_the_screen_against_the_selected_recording(
    replayed: Path, size: tuple[int, int], text_of: TextOf
) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=size) as pilot:
        text = await compared(app, pilot, text_of)
        lines = text.splitlines()
        assert " A 20260101-100000-base.db" in lines[2] and " B 20260102-100000-few.db" in lines[3]
        for part in ("ttft p50 ms", "! worse", "Share of e2el", "x swaps A and B"):
            assert part in text
        assert "refreshes" not in text
        assert not [line for line in lines[6:-3] if "…" in line]
        await pilot.press("c")
        assert "Share of e2el" not in text_of(app)
        await pilot.press("escape")
        await until(app, pilot, "2, Enter compares", text_of)


@pytest.mark.parametrize("form", ["md", "json"])
async def test_e_writes_what_the_command_prints(
    replayed: Path, form: str, text_of: TextOf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("7", "e")
        assert said(app) == ["nothing to export: no recording has been chosen yet"]
        await compared(app, pilot, text_of)
        await pilot.press("e", *["backspace"] * 2, *"csv", "enter")
        await until(app, pilot, "write md or json", text_of)
        await pilot.press(*["backspace"] * 3, *form, "enter")
        assert said(app)[-1].startswith("saved ")
    (path,) = (tmp_path / "data" / "exports").iterdir()
    assert path.name.endswith(f"-compare.{form}") and path.stat().st_mode & 0o077 == 0
    base = replayed.with_name("20260101-100000-base.db")
    flag = "--json" if form == "json" else "--markdown"
    assert main(["compare", str(base), str(replayed), flag]) == 0
    assert path.read_text() == capsys.readouterr().out


async def test_verdicts_are_those_of_the_command(
    replayed: Path, base: Path, few_pages: Path
) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(120, 40)) as pilot:
        await compared(app, pilot, screen_of)
        found = page_of(app)._pairing.comparison
        assert found is not None
        assert found.metrics == compare(read_run(base), read_run(few_pages)).metrics


async def test_a_key_swaps_the_sides(replayed: Path, text_of: TextOf) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(120, 40)) as pilot:
        await compared(app, pilot, text_of)
        await pilot.press("x")
        await until(app, pilot, " A 20260102-100000-few.db", text_of)
        text = await until(app, pilot, "+ better", text_of)
        assert " B 20260101-100000-base.db" in text


@pytest.mark.parametrize("swapped", [False, True])
async def test_enter_on_a_regression_opens_it_in_the_session_on_the_screen(
    replayed: Path, text_of: TextOf, swapped: bool
) -> None:
    app = replay_of(replayed)
    app.source.toggle()  # type: ignore[attr-defined]
    async with app.run_test(size=(120, 40)) as pilot:
        await compared(app, pilot, text_of)
        if swapped:
            await pilot.press("x")
            await until(app, pilot, " A 20260102-100000-few.db", text_of)
        choice = page_of(app)._choice
        assert choice is not None and choice.selected is not None
        name = choice.selected.name_a if swapped else choice.selected.name_b
        await pilot.press("enter")
        text = await until(app, pilot, f"Request {name} ", text_of)
        assert "Waterfall" in text and "done " in text
        await pilot.press("escape")
        await until(app, pilot, "Requests slower by most", text_of)


async def test_another_workload_is_refused_in_the_commands_words_until_it_is_wanted(
    sessions: Path, base: Path, other_load: Path, text_of: TextOf
) -> None:
    shutil.copy(base, sessions / "20260101-100000-base.db")
    app = replay_of(Path(shutil.copy(other_load, sessions / "20260102-100000-other.db")))
    words = refusal(compare(read_run(base), read_run(other_load)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        await until(app, pilot, "Enter compares", text_of)
        await pilot.press("j", "enter")
        text = await until(app, pilot, "A and B were asked different things", text_of)
        assert words in " ".join(line.strip() for line in text.splitlines())
        assert "press a: compare all the same" in text
        await pilot.press("escape")
        assert "different things" not in text_of(app)
        await pilot.press("a")
        assert page_of(app)._board is None
        await pilot.press("enter")
        await until(app, pilot, "A and B were asked different things", text_of)
        await pilot.press("a")
        await until(app, pilot, "different workloads: prompts of", text_of)


async def test_what_is_no_session_is_one_line_and_no_crash(
    sessions: Path, replayed: Path, text_of: TextOf
) -> None:
    (sessions / "20260103-cut.db").write_bytes(replayed.read_bytes()[:9000])
    (sessions / "20260104-\x1b[2Jtext.db").write_bytes(b"not a database, for long enough" * 40)
    (sessions / "20260105-folder.db").mkdir()
    changed(sessions / "20260106-foreign.db", "CREATE TABLE t (x)")
    facts = Path(shutil.copy(replayed, sessions / "20260107-facts.db"))
    changed(facts, "UPDATE session SET value = 'soon'", "DELETE FROM session_start")
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        text = await until(app, pilot, "6, Enter compares", text_of)
        assert "folder" not in text, "a folder is no recording"
        assert "20260106-foreign.db: is a database, but no llmtop session" in text
        assert "20260104-text.db: cannot be read" in text
        for _ in range(4):
            await pilot.press("enter")
            told = page_of(app)._pairing.told
            assert told and await until(app, pilot, f" {clean_line(told)[:16]}", text_of)
            assert page_of(app)._board is None
            await pilot.press("escape", "j")


async def test_a_click_selects_and_another_compares(replayed: Path, text_of: TextOf) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        await until(app, pilot, "2, Enter compares", text_of)
        await pilot.click(offset=(10, 6))
        await pilot.pause()
        assert "▶" in text_of(app).splitlines()[6]
        await pilot.click(offset=(10, 6))
        await until(app, pilot, " A 20260101-100000-base.db", text_of)
        await pilot.click(offset=(10, 1))  # a tab
        await until(app, pilot, "Findings and events", text_of)


async def test_a_file_that_went_away_is_told(replayed: Path, text_of: TextOf) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        await until(app, pilot, "2, Enter compares", text_of)
        replayed.with_name("20260101-100000-base.db").unlink()
        await pilot.press("j", "enter")
        await until(app, pilot, "there is no file", text_of)


async def test_without_recordings_it_says_so(base: Path, text_of: TextOf) -> None:
    app = replay_of(base)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        await until(app, pilot, "no recording on this machine", text_of)
        await pilot.press("j", "enter", "x", "a", "pagedown")
        assert app.is_running


async def test_a_live_session_is_compared_while_it_is_recorded(
    sessions: Path,
    events: Events,
    record: Callable[[Path, list[AnyEvent]], Path],
    source_of: Callable[[SessionState], Any],
    text_of: TextOf,
) -> None:
    record(sessions / "20260101-100000-base.db", events(20.0))
    script, bus = iter(events(30.0)), Bus()
    path = sessions / "20260102-100000-live.db"
    recorder = Recorder(path, bus, Follower(bus), bus.publish)
    recorder.start()
    source = source_of(SessionState())

    def go_on(count: int) -> None:
        more = list(islice(script, count))
        source.feed(more)
        for event in more:
            bus.publish(event)

    go_on(1500)
    source.session_file = path
    app = LlmtopApp(source)
    try:
        async with app.run_test(size=(120, 40)) as pilot:
            await recorded(pilot, path)
            text = await compared(app, pilot, text_of)
            assert " B 20260102-100000-live.db" in text and "u refreshes" in text
            assert "B was not closed" in text
            before = after = page_of(app)._pairing.comparison
            assert before is not None
            go_on(3000)
            ends = time.monotonic() + 20  # the recorder writes in its own time
            while after.b.workload.requests == before.b.workload.requests:
                assert time.monotonic() < ends
                await pilot.press("u")
                await pilot.pause(0.1)
                after = page_of(app)._pairing.comparison or before
            assert after.b.workload.requests > before.b.workload.requests
            assert after.a == before.a
    finally:
        recorder.stop()


async def test_attached_without_a_file_the_ring_is_compared(
    sessions: Path,
    events: Events,
    record: Callable[[Path, list[AnyEvent]], Path],
    source_of: Callable[[SessionState], Any],
    text_of: TextOf,
) -> None:
    record(sessions / "20260101-100000-base.db", events(20.0))
    source = source_of(SessionState())
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("7")
        text = await until(app, pilot, "1, Enter compares", text_of)
        assert "B is what is kept in memory of this server" in text
        await pilot.press("enter")
        await until(app, pilot, "no request ended in what is kept in memory", text_of)
        source.feed(events(20.0))
        await pilot.press("u", "enter")
        text = await until(app, pilot, "Requests slower by most", text_of)
        assert " B in memory" in text and "pairs by name" in text


async def test_no_frame_waits_for_a_file(
    replayed: Path, monkeypatch: pytest.MonkeyPatch, text_of: TextOf
) -> None:
    released = threading.Event()

    def slow(*_: object) -> Sides:
        assert released.wait(60)
        return Sides(read_run(replayed), read_run(replayed))

    monkeypatch.setattr(compare_page, "read_sides", slow)
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        await until(app, pilot, "2, Enter compares", text_of)
        await pilot.press("enter")
        await until(app, pilot, "reading both recordings", text_of)
        await pilot.press("1")
        await until(app, pilot, "Findings and events", text_of)
        released.set()
        await pilot.press("7")
        await until(app, pilot, "A and B are the same recording", text_of)


async def test_what_is_waited_for_can_be_left(replayed: Path, text_of: TextOf) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("7")
        await until(app, pilot, "2, Enter compares", text_of)
        await pilot.press("j", "enter", "escape")
        await pilot.pause(1.0)
        assert page_of(app)._board is None
        assert "2, Enter compares" in text_of(app)


@pytest.mark.parametrize("size", SIZES)
async def test_privacy_masks_files_and_names(
    replayed: Path, size: tuple[int, int], text_of: TextOf
) -> None:
    (replayed.parent / "20260103-few-cut.db").write_bytes(replayed.read_bytes()[:9000])
    app = replay_of(replayed, viewing=Viewing(privacy=True, readonly=True))
    async with app.run_test(size=size) as pilot:
        await pilot.press("7")
        text = await until(app, pilot, "3, Enter compares", text_of)
        assert "•••: cannot be read" in text and "20260" not in text
        await pilot.press("enter")
        text = await until(app, pilot, " ••• cannot be read", text_of)
        assert "20260" not in text
        await pilot.press("j", "j", "enter")
        text = await until(app, pilot, "Requests slower by most", text_of)
        assert " A •••" in text and "▶ #" in text and "same recording" not in text
        assert not re.search(r"base|few[\d.]", text)
        await pilot.press("P")
        await until(app, pilot, " A 20260101-100000-base.db", text_of)
        await pilot.press("P")
        await until(app, pilot, " A •••", text_of)


async def test_its_keys_do_nothing_elsewhere(replayed: Path) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("2", "x", "u", "a")
        assert page_of(app)._pairing.path is None


async def test_a_panel_alone_and_back(replayed: Path, text_of: TextOf) -> None:
    app = replay_of(replayed)
    async with app.run_test(size=(80, 24)) as pilot:
        await compared(app, pilot, text_of)
        await pilot.press("tab", "m")
        text = await until(app, pilot, "prompt tok/s", text_of)
        assert "Requests slower by most" not in text
        await pilot.press("escape")
        await until(app, pilot, "Requests slower by most", text_of)
        await pilot.press("tab", "m", "escape", "escape")
        await until(app, pilot, "2, Enter compares", text_of)


def test_the_help_of_a_board_in_the_dashboard_names_its_keys_there() -> None:
    worst = CompareWorst(None, id="x")  # type: ignore[arg-type]
    worst._view = None
    worst.title = lambda view: ()  # type: ignore[method-assign]
    live = "\n".join(plain(row) for row in panel_rows(worst, Keymap(), "live", 76))
    alone = "\n".join(plain(row) for row in panel_rows(worst, Keymap(), "compare", 76))
    swap = next(key for key in KEYS if key.name == "swap")
    assert swap.help in live and swap.help not in alone
    assert "the recording that Enter opens" in alone


def page_of(app: LlmtopApp) -> ComparePage:
    page = app._dashboard._pages["compare"]
    assert isinstance(page, ComparePage)
    return page


def screen_of(app: Any) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def recorded(pilot: Any, path: Path) -> None:
    """Returns once the recorder has written something."""
    for _ in range(200):
        await pilot.pause(0.05)
        if path.exists() and session_info(path).num_requests:
            return


def changed(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
