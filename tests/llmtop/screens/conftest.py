"""Sources of the five states that every screen is drawn in, and a walk through all screens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from rich.segment import Segment

from llmtop.app import LlmtopApp
from llmtop.cost import CostMeter
from llmtop.sources.replay import ReplaySource
from llmtop.viewing import AS_IT_IS, Viewing
from llmtop.viewmodel import Connection, Cost
from profiler.events import AnyEvent, GpuSample, KernelRow, KernelWindow, Log
from profiler.state import SessionState

S: Final = 1_000_000_000
MS: Final = 1_000_000
GIB: Final = 1 << 30
NUM_CROWD: Final = 5000
# Name of a screen, and the keys that lead to it from the one before.
WALK: Final = (
    ("overview", ("1",)),
    ("requests", ("2",)),
    ("request", ("j", "j", "enter")),
    ("kv", ("escape", "escape", "3")),
    ("gpu", ("4",)),
    ("steps", ("5",)),
    ("log", ("6",)),
    ("kernels", ("T",)),
)
# What looks alike in every state.
ASIDE: Final = (("filter", ("escape", "slash")), ("help", ("escape", "question_mark")))

Events = Callable[..., list[AnyEvent]]


@dataclass(slots=True)
class Shot:
    """One screen as it stood: its lines, and the segments that they are made of."""

    name: str
    lines: list[list[Segment]] = field(repr=False)

    @property
    def text(self) -> list[str]:
        return ["".join(segment.text for segment in line) for line in self.lines]


def shot_of(app: LlmtopApp, name: str) -> Shot:
    return Shot(name, [list(strip) for strip in app.screen._compositor.render_strips()])


@pytest.fixture
def shoot() -> Callable[[LlmtopApp, str], Shot]:
    return shot_of


def device_samples(t_ns: int) -> Iterator[AnyEvent]:
    """Two devices that work, the second of them slowed down by its heat."""
    for second in range(6):
        for device, throttle in ((0, ""), (1, "thermal")):
            yield GpuSample(
                t_ns + second * S, device, "NVIDIA H100", 32 * GIB, 80 * GIB, 30 * GIB,
                58.0 + second, 40.0, 512.0 + 10 * second, 700.0, 61.0 + device, 1980, 2619,
                throttle, 1_000_000 + 512_000 * second, 5 << 20, 1 << 20,
            )  # fmt: skip


def told(t_ns: int) -> Iterator[AnyEvent]:
    """Log lines of each level, one of them longer than any screen, and a window of kernels."""
    yield Log(t_ns, "debug", "core", "a page was found")
    yield Log(t_ns, "warning", "core", "the disk is slow: " + "waited for it, " * 20)
    yield Log(t_ns, "error", "server", "a client went away: 日本語 in its last words")
    kernels = (
        KernelRow("void gemm<" + "float, " * 30 + ">", 112, 60 * MS, "linear"),
        KernelRow("_decode_kernel", 56, 20 * MS, "attention"),
        KernelRow("others", 0, 0),
    )
    yield KernelWindow(t_ns, t_ns - S, 30 * MS, 300, 2, "cuda", kernels, 20 * MS)


def way(state: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (*WALK, *ASIDE) if state == "live" else WALK


@cache
def events_of(name: str, events: Events) -> tuple[AnyEvent, ...]:
    if name == "empty":
        return tuple(events(0.0))
    if name == "crowd":
        crowd = events(3.0, concurrency=NUM_CROWD)
        return (*crowd, *device_samples(crowd[-1].t_ns - 5 * S))
    busy = events(30.0 if name == "replay" else 6.0)
    return (*busy, *told(busy[-1].t_ns))


@cache
def keyframe_of(name: str, events: Events) -> bytes:
    state = SessionState()
    for seq, event in enumerate(events_of(name, events), 1):
        state.apply(event, seq)
    return state.keyframe()


@pytest.fixture
def state_source(
    events: Events,
    source_of: Callable[[SessionState], Any],
    record: Callable[[Path, list[AnyEvent]], Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Any]:
    """A function: name of a state -> a source that stands still in it."""
    monkeypatch.setattr(ReplaySource, "bytes_recorded", 1_400_000)

    def make(name: str) -> Any:
        if name == "replay":
            path = tmp_path_factory.getbasetemp() / "session.db"
            if not path.exists():
                record(path, list(events_of(name, events)))
            source = ReplaySource(path, at="50%")
            source.toggle()
            return source
        keyframe = keyframe_of("live" if name == "stale" else name, events)
        shown = source_of(SessionState.restore(keyframe))
        if name == "stale":
            shown.connection = Connection("reconnecting", "connection refused")
        return shown

    return make


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is drawn depends neither on the time that a test takes nor on where it runs."""
    monkeypatch.setattr(CostMeter, "read", lambda self, now_ns: Cost(2.1, 31.4))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def walk(still: None, state_source: Callable[[str], Any]) -> Callable[..., Any]:
    """A function: state, size -> every screen of it, in order, after `keys_before` were pressed."""

    async def through(
        state: str,
        size: tuple[int, int],
        keys_before: tuple[str, ...] = (),
        viewing: Viewing = AS_IT_IS,
    ) -> list[Shot]:
        app = LlmtopApp(state_source(state), viewing=viewing)
        shots = []
        async with app.run_test(size=size) as pilot:
            await pilot.press(*keys_before)
            for name, keys in way(state):
                await pilot.press(*keys)
                app.frame()
                await pilot.pause()
                shots.append(shot_of(app, name))
        app.source.stop()
        return shots

    return through
