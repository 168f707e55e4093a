"""Keys, clicks and sizes in any order, while a session goes on or is played: the program stands."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from llmtop.app import LlmtopApp
from llmtop.sources.replay import ReplaySource
from profiler.state import SessionState

SIZES: Final = [(30, 8), (60, 16), (80, 24), (100, 30), (120, 40), (200, 60)]
MORE: Final = [
    *"0123456789:%->=&.*()",
    *(
        "7",
        "enter",
        "enter",
        "escape",
        "tab",
        "backspace",
        "left",
        "right",
        "up",
        "down",
        "home",
        "end",
    ),
]


class Staying(LlmtopApp):
    """Ends for nobody's wish: the palette, too, has "quit" among what a few letters find."""

    async def action_quit(self) -> None:
        pass


async def storm(
    app: LlmtopApp, pressable: list[str], seed: int, num_turns: int, go_on: Callable[[], None]
) -> None:
    rng = random.Random(seed)
    keys = [*(key for key in pressable if key != "e"), *MORE]  # a question of e writes a file
    async with app.run_test(size=(120, 40)) as pilot:
        for turn in range(num_turns):
            width, height = app.size
            kind = rng.random()
            if kind < 0.85:
                await pilot.press(rng.choice(keys))
            elif kind < 0.95:
                # Not on the footer, where "quit" is.
                await pilot.click(offset=(rng.randrange(width), rng.randrange(height - 1)))
            else:
                await pilot.resize_terminal(*rng.choice(SIZES))
            if turn % 7 == 0:
                go_on()
                app.frame()
        assert app.is_running
        assert app.return_code is None


@pytest.mark.parametrize(
    ("seed", "num_turns"),
    [(1, 30), *(pytest.param(seed, 1500, marks=pytest.mark.slow) for seed in (2, 3, 4))],
)
async def test_a_live_session(
    source_of: Any,
    pressable: list[str],
    events: Callable[..., list[Any]],
    seed: int,
    num_turns: int,
) -> None:
    script = iter(events(20.0))
    source = source_of(SessionState())

    def go_on() -> None:
        source.feed(list(islice(script, 12)))

    await storm(Staying(source), pressable, seed, num_turns, go_on)


@pytest.mark.parametrize(
    ("seed", "num_turns"),
    [(5, 30), *(pytest.param(seed, 1500, marks=pytest.mark.slow) for seed in (6, 7, 8))],
)
async def test_a_recorded_session(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pressable: list[str],
    events: Callable[..., list[Any]],
    record: Callable[[Path, list[Any]], Path],
    seed: int,
    num_turns: int,
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    path = tmp_path / "data" / "sessions" / "session.db"
    path.parent.mkdir(parents=True)
    record(path, events(10.0))
    await storm(Staying(ReplaySource(path)), pressable, seed, num_turns, lambda: None)
