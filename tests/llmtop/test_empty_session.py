"""Nothing has happened yet: every tab shows that, at every size, and every key can be pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from profiler.events import Phase, SessionStart
from profiler.state import SessionState

SIZES = [(40, 10), (60, 16), (80, 24), (120, 40), (200, 60)]
READY = (
    SessionStart(1, 1, "0", "m", "cpu", 2, 64, 16, 1024, 4096, 256, 8, 64, {}),
    Phase(2, "ready"),
)


def state_after(*events: Any) -> SessionState:
    state = SessionState()
    for event in events:
        state.apply(event)
    return state


@pytest.mark.parametrize(
    ("events", "size"),
    [((), (80, 24)), *((READY, size) for size in SIZES)],
    ids=["nothing", *map(str, SIZES)],
)
async def test_every_tab_is_drawn(
    source_of: Callable[[SessionState], Any],
    text_of: Callable[[Any], str],
    events: tuple[Any, ...],
    size: tuple[int, int],
) -> None:
    app = LlmtopApp(source_of(state_after(*events)))
    async with app.run_test(size=size) as pilot:
        for tab in "123456":
            await pilot.press(tab)
            app.frame()
            await pilot.pause()
            assert len(text_of(app).splitlines()) == size[1]


@pytest.mark.slow
async def test_every_key_can_be_pressed(
    source_of: Callable[[SessionState], Any], pressable: list[str]
) -> None:
    app = LlmtopApp(source_of(state_after(*READY)))
    async with app.run_test(size=(120, 40)) as pilot:
        for tab in "123456":
            await pilot.press(tab)
            for key in pressable:
                await pilot.press(key, "escape")
                app.frame()
    assert len(pressable) > 40
