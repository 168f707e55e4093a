"""Plain lines: what happens, in order, without a control code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.alarm import Alarm
from llmtop.plain import Narrator, follow, play_through, run_plain
from llmtop.sources.replay import ReplaySource
from llmtop.viewmodel import Connection
from profiler.events import AnyEvent, Log, Phase, SessionStart
from profiler.state import SessionState

Events = Callable[..., list[AnyEvent]]
S = 1_000_000_000


def test_phases_warnings_and_a_summary_every_ten_seconds(events: Events) -> None:
    lines: list[str] = []
    narrator = Narrator(lines.append, "http://127.0.0.1:8000", Alarm())
    state = SessionState()
    up = Connection("connected")
    for event in events(25.0, concurrency=2):
        state.apply(event)
        narrator.tell(state, up)
    state.apply(Log(state.t_ns, "warning", "core", "slow\x1b[31m disk"))
    narrator.tell(state, up)
    assert lines[0] == "connected: http://127.0.0.1:8000"
    assert any("load 0 of 272 tensors" in line for line in lines)
    summaries = [line for line in lines if "running" in line]
    assert len(summaries) == 3
    assert "running 2 waiting 0" in summaries[-1]
    assert "ttft p50" in summaries[-1]
    assert lines[-1].endswith("warning core: slow disk")
    assert all(line.isprintable() for line in lines)


def test_what_a_long_step_through_a_recording_shows_has_its_own_time_and_order() -> None:
    """A recording is told in steps of ten seconds; "ready" had the time of the step's end."""
    lines: list[str] = []
    state = SessionState()
    start = SessionStart(S, 1_800_000_000 * S, "0", "m", "cpu", 1, 4, 16, 1, 1, 64, 8, 64)
    for event in (
        Phase(S, "load"),
        start,
        Log(3 * S, "warning", "core", "early"),
        Phase(5 * S, "ready"),
        Log(8 * S, "warning", "core", "late"),
    ):
        state.apply(event)
    Narrator(lines.append, "x", Alarm()).tell(state, Connection("connected"))
    words = [line.split(maxsplit=1) for line in lines[1:4]]
    assert [text for _, text in words] == ["warning core: early", "ready", "warning core: late"]
    seconds = [int(at[-2:]) for at, _ in words]
    assert [(second - seconds[0]) % 60 for second in seconds] == [0, 2, 5]


def test_an_unready_server_has_no_numbers(events: Events) -> None:
    lines: list[str] = []
    state = SessionState()
    state.apply(events(0.0)[0])
    Narrator(lines.append, "x", Alarm()).tell(state, Connection("connected"))
    assert not any("running" in line for line in lines)


def test_following_ends_with_its_source(busy_source: Any) -> None:
    lines: list[str] = []
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        busy_source.connection = Connection("ended", "the server has stopped")

    follow(busy_source, Narrator(lines.append, "x", Alarm()), sleep)
    assert len(naps) == 1
    assert lines[-1] == "ended: the server has stopped"


def test_a_recording_is_told_to_its_end(
    tmp_path: Path,
    events: Events,
    record: Callable[[Path, list[AnyEvent]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(tmp_path / "s.db", events(22.0, concurrency=2))
    lines: list[str] = []
    source = ReplaySource(tmp_path / "s.db")
    play_through(source, source.replay, Narrator(lines.append, "s.db", Alarm()))
    assert sum("running" in line for line in lines) == 3
    source.stop()
    assert run_plain(ReplaySource(tmp_path / "s.db")) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_failed_source_raises_its_last_words(busy_source: Any) -> None:
    from llmtop.errors import LlmtopError

    busy_source.connection = Connection("failed", "no weights in it", "give another folder")
    with pytest.raises(LlmtopError) as caught:
        run_plain(busy_source)
    assert (caught.value.message, caught.value.hint) == ("no weights in it", "give another folder")
    assert busy_source.stopped
