"""Replay: a recording made by the real recorder, played, sought and stepped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.errors import LlmtopError
from llmtop.sources.replay import ReplaySource
from profiler.errors import SessionFileError
from profiler.events import AnyEvent
from profiler.state import SessionState, time_of

S = 1_000_000_000
Events = Callable[..., list[AnyEvent]]
Record = Callable[[Path, list[AnyEvent]], Path]


@pytest.fixture
def told(events: Events) -> list[AnyEvent]:
    return events(8.0)


@pytest.fixture
def recording(tmp_path: Path, told: list[AnyEvent], record: Record) -> Path:
    return record(tmp_path / "session.db", told)


def same(state: SessionState, other: SessionState) -> None:
    assert state.t_ns == other.t_ns
    assert state.seq == other.seq
    assert state.requests.live.keys() == other.requests.live.keys()
    for number, request in state.requests.live.items():
        assert request.token_times == other.requests.live[number].token_times
        assert request.phase == other.requests.live[number].phase
    assert state.pages.states == other.pages.states
    assert state.latency.quantiles("itl") == other.latency.quantiles("itl")
    assert state.throughput.generated_per_s == other.throughput.generated_per_s


def test_playing_and_seeking_to_an_instant_give_the_same_state(recording: Path) -> None:
    played, sought = ReplaySource(recording), ReplaySource(recording)
    start_ns = played.playback.start_ns
    played.poll(0)
    for tick in range(1, 21):
        played.poll(tick * S // 4)
    sought.toggle()
    sought.seek(start_ns + 7 * S)
    sought.seek(start_ns + 5 * S)
    same(played.poll(5 * S), sought.poll(0))
    assert played.playback.t_ns == sought.playback.t_ns == start_ns + 5 * S
    played.stop()
    sought.stop()


def test_a_short_way_on_is_played_and_a_long_way_is_jumped_to_the_same_state(
    recording: Path,
) -> None:
    near, far = ReplaySource(recording), ReplaySource(recording)
    for source in (near, far):
        source.toggle()
    start_ns = near.playback.start_ns
    near.seek(start_ns + S * 9 // 10)
    far._head.jump(start_ns + S * 9 // 10)
    same(near.poll(0), far.poll(0))


def test_speed_scales_time_within_its_limits(recording: Path) -> None:
    source = ReplaySource(recording)
    source.poll(0)
    source.faster(1)
    source.poll(S)
    assert source.playback.t_ns - source.playback.start_ns == 2 * S
    for _ in range(9):
        source.faster(1)
    assert source.playback.speed == 16
    for _ in range(9):
        source.faster(-1)
    assert source.playback.speed == 0.25


def test_the_end_pauses_and_play_begins_anew(recording: Path, told: list[AnyEvent]) -> None:
    source = ReplaySource(recording)
    source.poll(0)
    state = source.poll(3600 * S)
    playback = source.playback
    assert not playback.playing and playback.t_ns == playback.end_ns
    assert state.t_ns == max(time_of(e) for e in told)
    source.toggle()
    assert source.playback.playing and source.playback.t_ns == playback.start_ns
    source.repeat()
    source.poll(7200 * S)
    assert source.playback.playing


def test_steps_go_one_by_one_in_both_directions(recording: Path) -> None:
    source = ReplaySource(recording)
    source.seek(source.playback.start_ns + 3 * S)
    numbers = []
    for by in (1, 1, 1, -1, -1, 1):
        source.step(by)
        last = source.poll(0).steps.last
        assert last is not None and last.end_ns == source.playback.t_ns
        numbers.append(last.step)
    first = numbers[0]
    assert numbers == [first, first + 1, first + 2, first + 1, first, first + 1]
    assert not source.playback.playing


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("5s", 5), ("2.5s", 2.5), ("0:04", 4), ("0:00:03", 3)]
)
def test_places_in_time(recording: Path, text: str, seconds: float) -> None:
    source = ReplaySource(recording)
    assert source.go_to(text) == ""
    assert source.playback.t_ns - source.playback.start_ns == seconds * S


def test_a_place_before_the_end(recording: Path) -> None:
    source = ReplaySource(recording)
    assert source.go_to("-3s") == ""
    assert source.playback.end_ns - source.playback.t_ns == 3 * S


def test_a_bookmark_is_there_when_the_session_is_opened_again(recording: Path) -> None:
    source = ReplaySource(recording, at="4")
    assert "bookmark at step" in source.bookmark()
    source.seek(source.playback.end_ns)
    source.mark(-1)
    assert source.playback.t_ns - source.playback.start_ns == 4 * S
    source.stop()
    again = ReplaySource(recording)
    marked = [m.t_ns for m in again.playback.markers if m.glyph == "⚑"]
    assert marked == [again.playback.start_ns + 4 * S]
    again.stop()


def test_places_by_share_and_by_step(recording: Path) -> None:
    source = ReplaySource(recording)
    length_ns = source.playback.end_ns - source.playback.start_ns
    assert source.go_to("50%") == ""
    assert source.playback.t_ns - source.playback.start_ns == round(length_ns / 2)
    assert source.go_to("step 120") == ""
    last = source.poll(0).steps.last
    assert last is not None and last.step == 120


@pytest.mark.parametrize(
    "text", ["", "soon", "1:2:3:4", "-5", "step", "step 999999", "9:59:59", "101%"]
)
def test_what_is_no_place_is_said_and_changes_nothing(recording: Path, text: str) -> None:
    source = ReplaySource(recording)
    before = source.playback.t_ns
    assert source.go_to(text)
    assert source.playback.t_ns == before


def test_a_start_that_is_no_place_and_a_file_that_is_no_session(
    recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(LlmtopError):
        ReplaySource(recording, at="tomorrow")
    foreign = tmp_path / "other.db"
    foreign.write_bytes(b"no database at all")
    with pytest.raises(SessionFileError):
        ReplaySource(foreign)


async def test_replay_runs_through_the_same_screens(
    recording: Path, text_of: Callable[[Any], str]
) -> None:
    source = ReplaySource(recording, at="4")
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("space")
        app.frame()
        await pilot.pause()
        text = text_of(app)
        assert "⏸ REPLAY" in text and "session.db" in text and "1x" in text
        for word in ("Service", "running 8", "KV cache", "●"):
            assert word in text
        await pilot.press("greater_than_sign", "full_stop")
        app.frame()
        await pilot.pause()
        assert "2x" in text_of(app)
        assert source.playback.t_ns == source.playback.end_ns
        await pilot.press("g", *"0:02", "enter")
        app.frame()
        await pilot.pause()
        assert source.playback.t_ns - source.playback.start_ns == 2 * S
    source.stop()
