"""The whole terminal on folded states, driven by keys."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len

from llmtop.app import LlmtopApp
from llmtop.viewmodel import Connection
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import plain
from profiler.events import AnyEvent, Log, Phase, Recording, RequestQueued
from profiler.state import SessionState

TextOf = Callable[[Any], str]
SIZES = [(60, 16), (80, 24), (100, 30), (120, 40), (200, 60)]
PAGES = ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("size", SIZES)
async def test_every_tab_fits_every_size(busy_source: Any, size: tuple[int, int]) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=size) as pilot:
        for page in PAGES:
            await pilot.press(page)
            await pilot.pause()
            app.frame()
            await pilot.pause()
            for painted in app.screen.query(Painted):
                if painted.display and painted.size.width and painted.is_on_screen:
                    for y in range(painted.size.height):
                        assert cell_len(plain(painted.row(y))) == painted.size.width, painted


async def test_the_overview_shows_all_of_its_panels_uncut(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        text = text_of(app)
    for word in (
        "Service",
        "Memory",
        "KV cache",
        "GPU",
        "Processes",
        "Requests",
        "Findings and events",
    ):
        assert f"─ {word}" in text
    for word in ("● LIVE", "⏺ rec 13.5 MiB", "drops 0", "no NVML device", "queued → first token"):
        assert word in text
    assert "over 5 s, latencies over 60 s" in text
    assert "…" not in text


async def test_what_is_told_is_text_and_no_markup(
    busy_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy_source, "keep", lambda: "keeping: /home/a[/b]/[red]s.db")
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("r")
        await pilot.pause()
        (told,) = app._notifications
    assert told.message.endswith("/home/a[/b]/[red]s.db") and not told.markup


@pytest.mark.parametrize("width", [80, 120])
async def test_a_recording_that_stopped_is_not_told_as_one(
    busy_source: Any, text_of: TextOf, width: int
) -> None:
    busy_source.bytes_recorded = None
    busy_source.feed([Recording(busy_source.state.t_ns, 0, "database or disk is full")])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        title = text_of(app).splitlines()[0]
    assert "stopped" in title and "drops" in title


async def test_the_narrow_overview_keeps_what_matters(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        text = text_of(app)
    for word in ("generated", "running 8", "ttft p50", "itl p50", "kv ", "no NVML device", "cmpl-"):
        assert word in text or word.removeprefix("cmpl-") in text


async def test_too_small_a_terminal_says_so(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(50, 12)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        assert "needs 60x16, has 50x12" in text_of(app)


async def test_pause_stops_the_picture_and_not_the_collecting(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        before = busy_source.state.requests.num_running
        await pilot.press("space")
        t_ns = busy_source.state.t_ns + 3_000_000_000
        busy_source.feed([RequestQueued(t_ns, 9999, "late", 10, 10)])
        app.frame()
        await pilot.pause()
        assert "PAUSED 00:03 behind" in text_of(app)
        assert f"running {before} " in text_of(app)
        assert 9999 in busy_source.state.requests.live
        await pilot.press("space")
        await pilot.pause()
        assert "● LIVE" in text_of(app)
        assert "late" in text_of(app)


async def test_q_leaves_and_ctrl_c_interrupts(busy_source: Any) -> None:
    for key, code in (("q", 0), ("ctrl+c", 130)):
        app = LlmtopApp(busy_source)
        async with app.run_test() as pilot:
            await pilot.press(key)
            await pilot.pause()
        assert app.return_value == code


async def test_a_source_that_failed_ends_the_program(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test() as pilot:
        busy_source.connection = Connection("failed", "the server was killed by signal 9")
        await pilot.pause()
        app.frame()
    assert app.return_value == 1


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
async def test_a_lost_connection_is_seen(
    busy_source: Any, text_of: TextOf, size: tuple[int, int]
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        busy_source.connection = Connection("reconnecting", "no connection; trying again")
        app.frame()
        await pilot.pause()
        assert "RECONNECTING" in text_of(app)
        assert "no connection; trying again" in text_of(app)
        busy_source.connection = Connection("reconnecting", "a long reason " * 20)
        app.frame()
        await pilot.pause()
        tabs = text_of(app).splitlines()[1]
        assert tabs.startswith(" 1 Overview") and tabs.rstrip().endswith("…")


async def test_a_silent_core_is_seen_until_it_is_back(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        for name, badge in (("silent", "CORE SILENT"), ("ready", "● LIVE")):
            busy_source.feed([Phase(busy_source.state.t_ns + 1, name)])
            app.frame()
            await pilot.pause()
            assert badge in text_of(app)


async def test_start_up_shows_its_phases(
    source_of: Any, events: Callable[..., list[AnyEvent]], text_of: TextOf
) -> None:
    state = SessionState()
    for event in events(0.0)[:1]:
        state.apply(event)
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        text = text_of(app)
        assert "STARTING" in text and "loading the weights" in text
        assert "0 of 272 tensors" in text
        await pilot.press("l")
        assert app.model.load == ""


async def test_nothing_from_elsewhere_reaches_the_terminal_unclean(
    busy_source: Any, text_of: TextOf
) -> None:
    t_ns = busy_source.state.t_ns
    evil = "\x1b[2J\x1b]0;owned\x07na\x00me\u202e"
    busy_source.feed([RequestQueued(t_ns, 777, evil, 10, 10, sampling=evil)])
    busy_source.feed([Log(t_ns, "info", evil, evil)])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        for page in PAGES:
            await pilot.press(page)
            app.frame()
            await pilot.pause()
            text = text_of(app).replace("\n", "")
            assert text.isprintable()
        await pilot.press("2", "slash", *"id~name", "enter")
        await pilot.pause()
        assert "name" in text_of(app)


async def test_the_source_is_started_once(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test() as pilot:
        await pilot.pause()
        await asyncio.sleep(0)
    assert busy_source.started
    assert not busy_source.stopped


def without_clocks(text: str) -> list[str]:
    """All lines but those that tell what the terminal itself takes, or the time."""
    return [line for line in text.split("\n")[1:] if "terminal" not in line]


async def test_one_panel_alone_and_back(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.press("tab", "tab")
        await pilot.pause(0.1)
        before = text_of(app)
        assert "▸Generated" in before
        await pilot.press("m")
        await pilot.pause(0.1)
        text = text_of(app)
        assert "▸Generated" in text and "Service" not in text and "Requests 8" not in text
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert without_clocks(text_of(app)) == without_clocks(before)


async def test_a_frame_that_comes_as_the_program_ends_is_passed_over(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.model.page = "kv"
        await app._dashboard.query_children().remove()
        app.frame()
