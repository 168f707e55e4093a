"""Several servers on one screen: the table, digits, and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.viewing import Viewing
from profiler.events import AnyEvent, Buckets, MetricsSample, TargetState
from profiler.state import SessionState

S = 1_000_000_000
EDGES = (0.1, 0.2, 0.4)
TextOf = Callable[[Any], str]


def told_by(target: int, second: int) -> MetricsSample:
    """The second tells no latencies, the third has no traffic."""
    busy = 0 if target == 3 else second
    ttft = Buckets(EDGES, (0.0, busy, busy), 2.0 * busy, 1.0 * busy)
    gauges = {"running": 6.0 + target, "waiting": 2.0}
    gauges |= {"kv_usage": 0.4, "kv_tokens": 100_000} if target != 2 else {}
    counters = {"generation_tokens": 100.0 * busy, "prompt_tokens": 700.0 * busy}
    histograms = {} if target == 2 else {"ttft": ttft}
    return MetricsSample(second * S, "vLLM", "qwen", gauges, counters, histograms, 1, target)


def told(now: int) -> list[AnyEvent]:
    """Three that are up, the fourth down, the fifth asked and not heard of."""
    begin = (now - 9) * S
    events: list[AnyEvent] = [
        TargetState(begin, n, f"gpu-{n}.example:8000", "up", "vLLM", "0.33.0") for n in (1, 2, 3)
    ]
    events += [TargetState(begin, n, f"gpu-{n}.example:8000", "asked") for n in (4, 5)]
    down = "no answer\x1b[2J in time"
    events.append(TargetState(begin, 4, "gpu-4.example:8000", "down", "", "", down))
    return events + [told_by(n, second) for second in range(now - 9, now + 1) for n in (1, 2, 3)]


@pytest.fixture
def state() -> SessionState:
    state = SessionState()
    for seq, event in enumerate(told(time.monotonic_ns() // S), 1):
        state.apply(event, seq)
    return state


def line_of(text: str, what: str) -> str:
    return next(line for line in text.splitlines() if what in line)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_each_server_has_a_row_with_its_three_kinds_of_absence(
    state: SessionState, source_of: Any, text_of: TextOf, size: tuple[int, int]
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        text = text_of(app)
    assert "3 of 5 up" in text and "5 servers" in text
    wide = size[0] > 100
    names = [f"gpu-{n}.example" if wide else f"gpu-{n}" for n in range(1, 6)]
    rows = [
        next(r for r in text.splitlines() if r.startswith((f"│ ▶{n}", f"│  {n}")))
        for n in range(1, 6)
    ]
    assert all(name in row for name, row in zip(names, rows, strict=True))
    assert " 100 " in rows[0] and " 700 " in rows[0] and ">400" in rows[0] and "40%" in rows[0]
    assert "n/a" in rows[1] and "40%" not in rows[1], "not exposed"
    assert "idle" in rows[2] and "n/a" in rows[2], "no traffic yet, and no histogram of ITL"
    assert "down" in rows[3] and "no answer in time" in rows[3] and "\x1b" not in rows[3]
    assert "asking" in rows[4] and "no answer yet" in rows[4]
    assert "running 24" in text and "generated 200 tok/s" in text
    assert "40% (2 of 3)" in line_of(text, "KV cache")


async def test_a_row_that_grows_old_says_so(
    state: SessionState, source_of: Any, text_of: TextOf
) -> None:
    state.advance(state.t_ns + 30 * S)
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        text = text_of(app)
    assert "0 of 5 up" in text and "STALE 30s" in line_of(text, "gpu-1")
    assert "running --" in text


async def test_digits_enter_and_escape_go_there_and_back(
    state: SessionState, source_of: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()

        async def after(*keys: str) -> str:
            await pilot.press(*keys)
            await pilot.pause()
            return text_of(app)

        assert "vLLM qwen" in await after("2")
        assert "running 8" in text_of(app)
        assert "running 7" in await after("1")
        assert "Servers 3 of 5 up" in await after("escape")
        assert "running 9" in await after("j", "j", "enter"), "the third, below the first"
        assert "Servers 3 of 5 up" in await after("0")
        assert "DOWN: no answer in time" in await after("4")
        assert "its page has not been read yet" in text_of(app)
        assert app.model.target == 4
        assert "DOWN" in await after("8"), "nobody has this digit"
        assert "Log" in await after("9") and app.model.page == "log"
        assert "Servers 3 of 5 up" in await after("0")


async def test_a_click_on_a_row_or_a_tab_opens_it(
    state: SessionState, source_of: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.click("#fleet-table", offset=(10, 3))
        await pilot.pause()
        assert app.model.target == 2
        await pilot.click("#tabs", offset=(2, 0))
        await pilot.pause()
        assert app.model.target == 0 and "Servers 3 of 5" in text_of(app)


async def test_digits_are_tabs_where_one_server_is_watched(
    busy_state: SessionState, source_of: Any
) -> None:
    app = LlmtopApp(source_of(busy_state))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3", "9", "0", "8")
        assert app.model.page == "kv" and app.model.target == 0


@pytest.mark.parametrize(
    "size", [(60, 16), pytest.param((80, 24), marks=pytest.mark.slow), (200, 60)]
)
async def test_every_key_leaves_it_running(
    state: SessionState, source_of: Any, pressable: list[str], size: tuple[int, int]
) -> None:
    app = LlmtopApp(source_of(state), viewing=Viewing(ascii=True))
    async with app.run_test(size=size) as pilot:
        for key in pressable:
            await pilot.press(key, "escape")
        assert app.is_running


async def test_no_screen_tells_a_host_that_is_masked(
    state: SessionState, source_of: Any, text_of: TextOf
) -> None:
    source = source_of(state)
    source.address = ", ".join(f"gpu-{n}.example:8000" for n in range(1, 6))
    app = LlmtopApp(source, viewing=Viewing(privacy=True))
    async with app.run_test(size=(120, 40)) as pilot:
        for key in "01249":
            await pilot.press(key)
            await pilot.pause()
            app.frame()
            await pilot.pause()
            assert "example" not in text_of(app), key
            assert "PRIVATE" in text_of(app)
    assert state.fleet.replicas[1].told.name == "gpu-1.example:8000"
