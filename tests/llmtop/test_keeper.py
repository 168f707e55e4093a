"""`r`: what the ring holds, and all that comes, in a session file of the viewer's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.commands.session_files import find_session
from llmtop.sources.keeper import Keeper
from profiler.events import AnyEvent
from profiler.report import report_of
from profiler.session.listing import has_begun, session_info
from profiler.session.reader import SessionReader
from profiler.state import SessionState

S = 1_000_000_000
Events = Callable[..., list[AnyEvent]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    return tmp_path


def test_the_past_and_what_comes_are_in_one_file(
    source_of: Any, events: Events, home: Path
) -> None:
    told = events(14.0)
    source = source_of(SessionState())
    source.feed(told[:600])
    keeper = Keeper(source.ring)
    assert keeper.num_bytes is None
    said = keeper.keep()
    source.feed(told[600:])
    assert "already" in keeper.keep()
    keeper.end()
    assert keeper.path is not None and str(keeper.path) in said
    assert keeper.path.parent == home / "data" / "sessions"
    reader = SessionReader(keeper.path)
    assert [event for _, event in reader.events()] == told
    for share in (0.1, 0.5, 1.0):
        t_ns = reader.start_ns + round(share * (reader.end_ns - reader.start_ns))
        assert reader.state_at(t_ns).keyframe() == source.ring.state_at(t_ns).keyframe()
    assert reader.state_at(reader.end_ns).keyframe() == source.state.keyframe()
    reader.close()
    info = session_info(keeper.path)
    assert (info.model, info.clean_end, info.problem) == ("smollm2-135m-instruct", True, "")


def kept_of_one_that_ran_already(source_of: Any, told: list[Any]) -> tuple[Any, Path]:
    """The source, whose ring begins in the middle of what is told, and the file that was kept."""
    earlier = SessionState()
    for event in told[:900]:
        earlier.apply(event)
    source = source_of(earlier)
    source.ring.begin(earlier)
    source.feed(told[900:])
    keeper = Keeper(source.ring)
    keeper.keep()
    keeper.end()
    assert keeper.path is not None
    return source, keeper.path


def test_what_was_kept_of_a_server_that_ran_already_is_the_latest_recording(
    source_of: Any, events: Events, home: Path
) -> None:
    """Its file holds no start of a session, only a state that knows it."""
    _, path = kept_of_one_that_ran_already(source_of, events(14.0))
    reader = SessionReader(path)
    assert not list(reader.query("SELECT 1 FROM session_start"))
    assert reader.session is not None
    report, work = report_of(reader), report_of(reader).work
    assert work.inherited > 0 and report.latencies["ttft"] is not None
    assert work.queued + work.inherited == work.finished + work.failed + work.unfinished
    assert report.latencies["ttft"].n == work.told == work.finished + work.failed
    assert len(list(reader.query("SELECT 1 FROM request"))) > work.told, "some ended before it"
    reader.close()
    assert has_begun(path)
    assert find_session("latest", path.parent) == path


def test_a_kept_session_has_no_seconds_before_it_began(
    source_of: Any, events: Events, home: Path
) -> None:
    """Its first state knows the minutes before: they were drawn as if they had been recorded."""
    source, path = kept_of_one_that_ran_already(source_of, events(14.0))
    earlier = source.ring.state_at(source.ring.start_ns)
    reader = SessionReader(path)
    first, last = reader.start_ns // S, reader.end_ns // S
    assert earlier.seconds.rows[0].second < first
    assert [row.second for row in reader.seconds()] == list(range(first, last))
    assert {row.second for row in reader.gpu_seconds()} <= set(range(first, last))
    assert reader.markers() == source.ring.markers()
    ((oldest,),) = reader.query("SELECT min(second) FROM step_1s")
    assert oldest == earlier.seconds.rows[0].second, "findings may be proved by it"
    reader.close()


def test_of_a_server_that_is_gone_the_past_is_kept_whole(
    source_of: Any, events: Events, home: Path
) -> None:
    """Nothing comes after the key is pressed: rows of requests and seconds were left out then."""
    source = source_of(SessionState())
    source.feed(events(14.0))
    keeper = Keeper(source.ring)
    keeper.keep()
    keeper.end()
    assert keeper.path is not None
    reader = SessionReader(keeper.path)
    ((requests,),) = reader.query("SELECT count(*) FROM request")
    assert requests == len(source.state.requests.done) > 0
    assert len(reader.seconds()) >= 13
    reader.close()


def test_after_an_end_the_next_file_begins(source_of: Any, events: Events, home: Path) -> None:
    source = source_of(SessionState())
    source.feed(events(1.0))
    keeper = Keeper(source.ring)
    keeper.keep()
    keeper.end()
    first = keeper.path
    assert keeper.num_bytes is None
    assert "already" not in keeper.keep()
    keeper.end()
    keeper.end()
    assert keeper.path != first


def test_what_cannot_be_written_is_said(
    source_of: Any, events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file where a folder would be")
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path / "home"))
    source = source_of(SessionState())
    keeper = Keeper(source.ring)
    assert "nothing to keep" in keeper.keep()
    source.feed(events(1.0))
    assert "cannot record" in keeper.keep()
    assert keeper.path is None


async def test_r_says_where(busy_source: Any, text_of: Callable[[Any], str]) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        await pilot.press("r")
        await pilot.pause()
        assert [note.message for note in app._notifications] == ["kept"]
