"""Recordings of made-up sessions, written by the recorder's own path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from profiler.bus import Bus
from profiler.events import AnyEvent
from profiler.follower import Follower
from profiler.session.tape import Tape

Record = Callable[..., Path]


def write(path: Path, events: list[AnyEvent]) -> Path:
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    for i, event in enumerate(events, 1):
        bus.publish(event)
        if i % 40 == 0:
            tape.flush()
    tape.finish()
    return path


def stretched(event: AnyEvent, factor: float) -> AnyEvent:
    stamps = {
        name: round(getattr(event, name) * factor)
        for name in ("t_ns", "end_ns")
        if hasattr(event, name)
    }
    return msgspec.structs.replace(event, **stamps)


@pytest.fixture(scope="session")
def recording(workload: Any, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A file of `num_steps` steps, all times `stretch` times as long; other options are the
    workload's own."""

    def make(num_steps: int = 900, stretch: float = 1.0, **options: Any) -> Path:
        settings = {"concurrency": 10, "num_pages": 4096, "output_tokens": (8, 64), **options}
        events = [stretched(e, stretch) for e in workload(**settings).events(num_steps)]
        return write(tmp_path_factory.mktemp("session") / "session.db", events)

    return make


@pytest.fixture(scope="session")
def base(recording: Record) -> Path:
    return recording()
