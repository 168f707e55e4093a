from __future__ import annotations

from pathlib import Path

import pytest

from llmtop.serving_observer import Observer
from llmtop.serving_progress import Progress
from profiler.events import Log, Phase

SECOND = 10**9


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def progress(said: list[str]) -> Progress:
    return Progress(said.append)


def test_each_phase_is_said_once_when_it_begins(progress, said):
    for t_ns, name in enumerate(("fetch", "fetch", "load", "load", "ready", "stopped")):
        progress.hear(Phase(t_ns, name))
    assert said == ["fetching the model", "loading the weights", "stopped"]


def test_a_long_phase_says_every_two_seconds_how_far_it_is(progress, said):
    for tenth in range(41):
        done = tenth * 1_000_000
        progress.hear(Phase(tenth * SECOND // 10, "fetch", done, 98_000_000, "bytes"))
    progress.hear(Phase(5 * SECOND, "load", 0, 0, "layers"))
    progress.hear(Phase(8 * SECOND, "load", 7, 0, "layers"))
    progress.hear(Phase(11 * SECOND, "load", 9, 30, "layers"))
    assert said == [
        "fetching the model",
        "fetching the model: 20 of 98 MB",
        "fetching the model: 40 of 98 MB",
        "loading the weights",
        "loading the weights: 7 layers",
        "loading the weights: 9 of 30 layers",
    ]


def test_what_went_wrong_in_the_server_is_said_without_control_characters(progress, said):
    progress.hear(Log(1, "error", "server", "bad\x1b[31m\nthing"))
    progress.hear(Log(2, "info", "server", "nothing to see"))
    progress.hear(Log(3, "error", "core", "told as the last word"))
    assert said == ["error: bad thing"]


async def test_a_recording_that_cannot_go_on_is_said(progress, said, tmp_path: Path):
    observer = Observer(progress.hear, tmp_path / "no-folder" / "session.db", observe=False)
    observer.start({})
    await observer.stop()
    assert observer.recording is None
    assert len(said) == 1 and said[0].startswith("error: recording stopped: ")
