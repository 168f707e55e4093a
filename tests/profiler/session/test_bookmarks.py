"""Bookmarks: in the session file, or beside it where that is not ours to write."""

from pathlib import Path
from typing import Any

import pytest

from profiler.bus import Bus
from profiler.errors import SessionFileError
from profiler.follower import Follower
from profiler.session import bookmarks
from profiler.session.reader import SessionReader
from profiler.session.tape import Tape


@pytest.fixture
def session(tmp_path: Path, workload: Any) -> Path:
    path, bus = tmp_path / "s.db", Bus()
    tape = Tape(path, bus, Follower(bus))
    for event in workload(1, concurrency=4).events(40):
        bus.publish(event)
    tape.finish()
    return path


def marked(path: Path) -> list[tuple[int, str]]:
    reader = SessionReader(path)
    try:
        return [(m.t_ns, m.text) for m in reader.markers() if m.glyph == bookmarks.GLYPH]
    finally:
        reader.close()


def test_they_are_kept_in_the_file(session: Path) -> None:
    assert marked(session) == []
    assert bookmarks.add(session, 20, "later") == session
    assert bookmarks.add(session, 10, "sooner") == session
    assert marked(session) == [(10, "bookmark: sooner"), (20, "bookmark: later")]
    assert list(session.parent.iterdir()) == [session]


def test_a_read_only_file_stays_as_it_is(session: Path) -> None:
    session.chmod(0o400)
    before = session.read_bytes()
    beside = bookmarks.add(session, 10, "x")
    assert beside.name == "s.db.bookmarks" and beside.stat().st_mode & 0o777 == 0o600
    assert marked(session) == [(10, "bookmark: x")]
    assert session.read_bytes() == before


def test_what_is_beside_and_no_list_counts_as_none(session: Path) -> None:
    (session.parent / "s.db.bookmarks").write_text("a letter")
    assert marked(session) == []


def test_a_link_beside_is_not_followed(session: Path) -> None:
    session.chmod(0o400)
    (session.parent / "s.db.bookmarks").symlink_to(session.parent / "elsewhere")
    with pytest.raises(SessionFileError, match="not saved"):
        bookmarks.add(session, 10, "x")
    assert not (session.parent / "elsewhere").exists()


def test_a_session_still_being_recorded_takes_them_too(tmp_path: Path, workload: Any) -> None:
    path, bus = tmp_path / "live.db", Bus()
    tape = Tape(path, bus, Follower(bus))
    for event in workload(1, concurrency=4).events(40):
        bus.publish(event)
    tape.flush()
    assert bookmarks.add(path, 10, "x") == path
    tape.finish()
    assert marked(path) == [(10, "bookmark: x")]
