"""Recordings of made-up sessions, written by the recorder's own path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from profiler.events import AnyEvent

Record = Callable[..., Path]


def stretched(event: AnyEvent, factor: float) -> AnyEvent:
    stamps = {
        name: round(getattr(event, name) * factor)
        for name in ("t_ns", "end_ns")
        if hasattr(event, name)
    }
    return msgspec.structs.replace(event, **stamps)


@pytest.fixture(scope="session")
def recording(
    workload: Any,
    record: Callable[[Path, list[AnyEvent]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Record:
    """A file of `num_steps` steps, all times `stretch` times as long; other options are the
    workload's own."""

    def make(num_steps: int = 900, stretch: float = 1.0, **options: Any) -> Path:
        settings = {"concurrency": 10, "num_pages": 4096, "output_tokens": (8, 64), **options}
        events = [stretched(e, stretch) for e in workload(**settings).events(num_steps)]
        return record(tmp_path_factory.mktemp("session") / "session.db", events)

    return make


@pytest.fixture(scope="session")
def base(recording: Record) -> Path:
    return recording()
