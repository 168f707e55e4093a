"""A session file gives back what was put in, after any kind of end, and refuses what is none."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlite_utils

from profiler.bus import Bus
from profiler.errors import SessionFileError
from profiler.events import AnyEvent, Dropped, Log, Phase, Recording, SessionStart, Step
from profiler.follower import Follower
from profiler.session import schema
from profiler.session.listing import list_sessions
from profiler.session.reader import SessionReader
from profiler.session.recorder import Recorder
from profiler.session.tape import KEYFRAME_NS, Tape
from profiler.state import SessionState, time_of

S = 1_000_000_000


def record(path: Path, events: list[AnyEvent], flush_every: int = 40, clean: bool = True) -> Tape:
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    for i, event in enumerate(events, 1):
        bus.publish(event)
        if i % flush_every == 0:
            tape.flush()
    if clean:
        tape.finish()
    return tape


def played(reader: SessionReader, t_ns: int) -> SessionState:
    """The slow way: every event from the beginning, up to the first that is later."""
    state = SessionState()
    for seq, event in itertools.takewhile(lambda e: time_of(e[1]) <= t_ns, reader.events()):
        state.apply(event, seq)
    state.advance(t_ns)
    return state


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    made = workload(7, concurrency=10, num_pages=260, odd_share=0.1, step_ns=40_000_000)
    return list(made.events(700))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, events: list[AnyEvent]) -> Path:
    path = tmp_path_factory.mktemp("sessions") / "20260301-120000-synthetic.db"
    record(path, events)
    return path


@pytest.fixture
def reader(recorded: Path) -> Iterator[SessionReader]:
    reader = SessionReader(recorded)
    yield reader
    reader.close()


def test_events_come_back_as_they_went_in(reader: SessionReader, events: list[AnyEvent]) -> None:
    assert [event for _, event in reader.events()] == events
    assert [seq for seq, _ in reader.events()] == list(range(1, len(events) + 1))
    assert [e for _, e in reader.events(after_seq=100, until_seq=110)] == events[100:110]


def test_a_seek_equals_playing(reader: SessionReader) -> None:
    rng = random.Random(0)
    times = [rng.randint(reader.start_ns, reader.end_ns) for _ in range(25)]
    for t_ns in [reader.start_ns, reader.end_ns, *times]:
        assert reader.state_at(t_ns).keyframe() == played(reader, t_ns).keyframe()


def test_playing_on_after_a_seek_equals_a_later_seek(reader: SessionReader) -> None:
    middle = (reader.start_ns + reader.end_ns) // 2
    state = reader.state_at(middle)
    later = middle + 3 * S
    for seq, event in itertools.takewhile(
        lambda e: time_of(e[1]) <= later, reader.events(state.seq)
    ):
        state.apply(event, seq)
    state.advance(later)
    assert state.keyframe() == reader.state_at(later).keyframe()


def test_steps_are_found_by_number(reader: SessionReader, events: list[AnyEvent]) -> None:
    steps = {event.step: event for event in events if isinstance(event, Step)}
    numbers = [min(steps) - 1, *steps, max(steps) + 1, 10**18]
    assert [reader.step(n) for n in numbers] == [steps.get(n) for n in numbers]


def test_keyframes_lie_close_enough_to_seek(recorded: Path) -> None:
    rows = sqlite3.connect(recorded).execute("SELECT t_ns FROM keyframe ORDER BY seq").fetchall()
    gaps = [b - a for (a,), (b,) in itertools.pairwise(rows)]
    assert gaps and max(gaps) < KEYFRAME_NS + S


def test_roll_ups_equal_the_seconds_of_the_state(
    reader: SessionReader, events: list[AnyEvent]
) -> None:
    state = SessionState()
    for event in events:
        state.apply(event)
    assert reader.seconds() == list(state.seconds.rows)
    gpu = (
        sqlite3.connect(reader.path).execute("SELECT count(*), min(device) FROM gpu_1s").fetchone()
    )
    assert gpu == (len(state.seconds.gpu_rows), 0)


def test_plain_sql_answers(recorded: Path, reader: SessionReader) -> None:
    """The file is for people with other tools too."""
    db = sqlite_utils.Database(recorded)
    assert {table.name for table in db.tables} >= {*schema.EVENT_CODECS, "session", "keyframe"}
    assert all(table.strict for table in db.tables)
    (made, steps) = db.execute("SELECT sum(new_tokens), count(*) FROM step").fetchone()
    state = reader.state_at(reader.end_ns)
    assert (made, steps) == (state.totals.generated_tokens, state.steps.num_steps)
    view = state.requests.done[-1]
    row = next(db.query("SELECT * FROM request WHERE request = ?", [view.request]))
    assert (row["num_output_tokens"], row["t_first_ns"]) == (
        view.num_output_tokens,
        view.t_first_ns,
    )
    (gaps,) = db.execute("SELECT gaps_us FROM itl WHERE request = ?", [view.request]).fetchone()
    assert list(memoryview(gaps).cast("I")) == [gap // 1000 for gap in view.itl_ns]


def test_one_private_file_is_left(recorded: Path, reader: SessionReader) -> None:
    assert list(recorded.parent.iterdir()) == [recorded]
    assert recorded.stat().st_mode & 0o777 == 0o600
    assert reader.clean_end
    assert reader.facts["lost"] == "0"
    assert reader.session is not None and reader.session.model == "synthetic"


def test_markers_name_what_happened(reader: SessionReader) -> None:
    kinds = {marker.text.split(":")[0] for marker in reader.markers()}
    assert {"phase", "preempt", "rejected"} <= kinds
    times = [marker.t_ns for marker in reader.markers()]
    assert times == sorted(times)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    path.write_text("a letter")
    bus = Bus()
    recorder = Recorder(path, bus, Follower(bus), bus.publish)
    recorder.start()
    recorder.stop()
    assert path.read_text() == "a letter"
    assert recorder.error is not None and "exists" in recorder.error


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(OSError):
        Tape(tmp_path / "link.db", Bus(), Follower(Bus()))
    assert not (tmp_path / "elsewhere.db").exists()


KILLED = """
import sys, time
from pathlib import Path
from profiler.bus import Bus
from profiler.events import Log
from profiler.follower import Follower
from profiler.session.recorder import Recorder
bus = Bus()
recorder = Recorder(Path(sys.argv[1]), bus, Follower(bus), bus.publish)
recorder.start()
number = 0
while True:
    number += 1
    t_ns = time.monotonic_ns()
    bus.publish(Log(t_ns, "info", "test", str(number)))
    time.sleep(0.002)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file whose recorder was killed at full speed, at a moment at which it lacked less than the
    last half second, and the time of the newest event it had then.

    A busy machine may keep the recorder waiting, so that moment is waited for.
    """
    path = tmp_path_factory.mktemp("killed") / "killed.db"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    deadline = time.monotonic() + 60
    end_ns = 0
    while time.monotonic_ns() - end_ns >= 0.5 * S:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        with suppress(SessionFileError), closing(SessionReader(path)) as reader:
            end_ns = reader.end_ns if reader.last_seq > 100 else 0
    child.send_signal(signal.SIGKILL)
    child.wait()
    return path, end_ns


def test_a_killed_recorder_loses_nothing_that_was_written(killed: tuple[Path, int]) -> None:
    path, written_ns = killed
    reader = SessionReader(path)
    assert not reader.clean_end
    assert reader.end_ns >= written_ns
    numbers = [int(e.text) for _, e in reader.events() if isinstance(e, Log)]
    assert numbers == list(range(1, len(numbers) + 1)), "whole batches, none missing before"
    assert reader.state_at(reader.end_ns).log.counts == {"info": len(numbers)}
    reader.close()


def test_a_killed_session_opens_in_a_folder_nobody_may_write(
    killed: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the refusal of the folder is SQLite's own error, made up."""
    path, _ = killed
    folder = tmp_path / "readonly"
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(str(path) + suffix, str(folder / "killed.db") + suffix)
    connect = sqlite3.connect

    def refusing(database: str, **options: Any) -> sqlite3.Connection:
        if str(folder) in database:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(database, **options)

    monkeypatch.setattr(sqlite3, "connect", refusing)
    reader = SessionReader(folder / "killed.db")
    assert reader.last_seq > 10
    reader.close()
    assert {p.name for p in folder.iterdir()} == {"killed.db", "killed.db-wal"}


def test_a_session_still_being_written_can_be_followed(
    tmp_path: Path, events: list[AnyEvent]
) -> None:
    path = tmp_path / "live.db"
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    for event in events[:200]:
        bus.publish(event)
    tape.flush()
    reader = SessionReader(path)
    assert (reader.last_seq, reader.clean_end) == (200, False)
    for event in events[200:400]:
        bus.publish(event)
    tape.flush()
    reader.refresh()
    assert reader.last_seq == 400
    assert [e for _, e in reader.events(200)] == events[200:400]
    tape.abandon()
    reader.close()


def test_a_gap_in_the_stream_is_an_event_of_its_own(tmp_path: Path) -> None:
    path, bus = tmp_path / "gap.db", Bus(capacity=8)
    tape = Tape(path, bus, Follower(bus))
    for i in range(1, 21):
        bus.publish(Phase(i * S, f"p{i}"))
    tape.finish()
    reader = SessionReader(path)
    first = next(reader.events())
    assert first == (1, Dropped(13 * S, 1, 12))
    assert [seq for seq, _ in reader.events()] == [1, *range(13, 21)]
    assert reader.facts["lost"] == "12"
    assert reader.state_at(reader.end_ns).drops == 12
    reader.close()


def test_recorder_tells_its_size_and_writes_what_is_left(
    tmp_path: Path, events: list[AnyEvent]
) -> None:
    path, bus = tmp_path / "whole.db", Bus()
    follower = Follower(bus)
    recorder = Recorder(path, bus, follower, bus.publish)
    for event in events[:100]:
        bus.publish(event)
    recorder.start()
    recorder.stop()
    recorder.stop()
    assert recorder.error is None
    reader = SessionReader(path)
    kept = [event for _, event in reader.events() if not isinstance(event, Recording)]
    assert kept == events[:100] and reader.clean_end
    reader.close()


def test_a_full_disk_stops_recording_and_nothing_else(
    tmp_path: Path, events: list[AnyEvent]
) -> None:
    """The disk's end is SQLite's own limit on the file's size: the error is the real one."""
    bus = Bus()
    follower = Follower(bus)
    tape = Tape(tmp_path / "full.db", bus, follower)
    tape._writer._db.execute("PRAGMA max_page_count = 60").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for event in events:
            bus.publish(event)
            tape.flush()
    tape.abandon()
    reader = SessionReader(tmp_path / "full.db")
    assert 0 < reader.last_seq < len(events)
    assert [e for _, e in reader.events()] == events[: reader.last_seq]
    reader.close()


def test_a_recorder_that_fails_says_so_on_the_bus(tmp_path: Path) -> None:
    bus = Bus()
    follower = Follower(bus)
    recorder = Recorder(tmp_path / "no" / "folder" / "x.db", bus, follower, bus.publish)
    recorder.start()
    recorder.stop()
    assert recorder.error is not None and "No such file" in recorder.error
    with follower.read() as state:
        assert state.recording is not None and "No such file" in state.recording.error
        assert state.log.lines[0].level == "error"


def damaged_copies(recorded: Path, folder: Path) -> dict[str, Path]:
    data = recorded.read_bytes()
    files = {
        "text": b"no database at all, but long enough to be looked at" * 20,
        "empty": b"",
        "cut": data[: len(data) // 3],
        "header": data[:100],
    }
    for name, content in files.items():
        (folder / f"{name}.db").write_bytes(content)
    other = sqlite3.connect(folder / "foreign.db")
    other.execute("CREATE TABLE session (key TEXT)")
    other.commit()
    other.close()
    return {path.stem: path for path in folder.glob("*.db")}


def test_foreign_and_damaged_files_are_refused_in_words(recorded: Path, tmp_path: Path) -> None:
    for name, path in damaged_copies(recorded, tmp_path).items():
        with pytest.raises(SessionFileError) as caught:
            reader = SessionReader(path)
            reader.state_at(reader.end_ns)
            list(reader.events())
        assert path.name in caught.value.message, name
        assert "\n" not in caught.value.message and caught.value.hint


def test_a_file_from_before_a_field_reads_as_its_default(
    recorded: Path, reader: SessionReader, tmp_path: Path
) -> None:
    """An older program recorded steps that did not say what the queue waits for, and measured
    no ceilings."""
    path = tmp_path / "older.db"
    shutil.copyfile(recorded, path)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE step DROP COLUMN waits_for")
        connection.execute("ALTER TABLE session_start DROP COLUMN read_bytes_per_s")
        connection.execute("ALTER TABLE session_start DROP COLUMN shape")
        connection.execute("ALTER TABLE session_start DROP COLUMN packing")
        connection.execute("ALTER TABLE step DROP COLUMN packed_pages")
        connection.execute("ALTER TABLE page_keyframe DROP COLUMN forms")
        connection.execute("ALTER TABLE memory_sample DROP COLUMN kv_wide_bytes")
        connection.execute("ALTER TABLE step_1s DROP COLUMN possible_per_s")
    older = SessionReader(path)
    lacking = {Step: {"waits_for": ""}, SessionStart: {"read_bytes_per_s": None, "shape": None}}
    said = [msgspec.structs.replace(e, **lacking.get(type(e), {})) for _, e in reader.events()]
    assert [event for _, event in older.events()] == said
    assert (
        older.state_at(older.end_ns).steps.num_steps
        == reader.state_at(reader.end_ns).steps.num_steps
    )
    bare = [msgspec.structs.replace(row, possible_per_s=None) for row in reader.seconds()]
    assert older.seconds() == bare
    older.close()


def test_a_field_without_a_default_cannot_be_missing(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.db"
    shutil.copyfile(recorded, path)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE step DROP COLUMN end_ns")
    with pytest.raises(SessionFileError, match="no column end_ns"):
        SessionReader(path)


def test_a_file_cut_anywhere_plays_or_is_refused_in_words(recorded: Path, tmp_path: Path) -> None:
    data, refused = recorded.read_bytes(), 0
    for eighths in range(8):
        path = tmp_path / f"cut{eighths}.db"
        path.write_bytes(data[: len(data) * eighths // 8])
        try:
            reader = SessionReader(path)
            reader.state_at((reader.start_ns + reader.end_ns) // 2)
            list(reader.events())
            reader.markers()
        except SessionFileError as error:
            refused += 1
            assert path.name in error.message and "\n" not in error.message
    assert refused >= 6


@pytest.mark.parametrize(
    "addition",
    [
        "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
        "SELECT i FROM n",
        "CREATE TRIGGER hidden AFTER INSERT ON log BEGIN DELETE FROM step; END",
    ],
)
def test_a_file_that_computes_is_refused(recorded: Path, tmp_path: Path, addition: str) -> None:
    path = tmp_path / "clever.db"
    shutil.copyfile(recorded, path)
    db = sqlite3.connect(path)
    db.execute(addition)
    db.commit()
    db.close()
    with pytest.raises(SessionFileError, match="views or triggers"):
        SessionReader(path)


def test_a_newer_format_is_refused_with_a_hint(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    shutil.copyfile(recorded, path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {schema.USER_VERSION + 1}")
    db.close()
    with pytest.raises(SessionFileError, match="newer llmtop") as caught:
        SessionReader(path)
    assert "upgrade" in caught.value.hint


def test_a_file_from_before_findings_opens(
    recorded: Path, tmp_path: Path, events: list[AnyEvent]
) -> None:
    path = tmp_path / "older.db"
    shutil.copyfile(recorded, path)
    db = sqlite3.connect(path)
    db.execute("DROP TABLE finding")
    db.commit()
    db.close()
    reader = SessionReader(path)
    assert [event for _, event in reader.events()] == events
    assert reader.state_at(reader.end_ns).findings.all() == []
    assert reader.markers()
    reader.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE keyframe SET state = x'00ff'",
        "UPDATE step SET rows = x'ffffffff00'",
        "UPDATE page_delta SET runs = x'01'",
        "DROP TABLE step",
        "DROP TABLE step_1s",
    ],
)
def test_damage_inside_is_an_error_in_words(recorded: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.db"
    shutil.copyfile(recorded, path)
    db = sqlite3.connect(path)
    db.execute(damage)
    db.commit()
    db.close()
    with pytest.raises(SessionFileError, match=r"damaged\.db cannot be read"):
        reader = SessionReader(path)
        reader.state_at(reader.end_ns)
        list(reader.events())
        reader.seconds()


def test_listing_tells_each_session_and_each_problem(recorded: Path, tmp_path: Path) -> None:
    shutil.copyfile(recorded, tmp_path / "good.db")
    (tmp_path / "bad.db").write_text("nothing of the kind")
    (tmp_path / "other.txt").write_text("not looked at")
    bad, good = list_sessions(tmp_path)
    assert bad.problem and not bad.model
    assert (good.model, good.clean_end, good.problem) == ("synthetic", True, "")
    assert good.num_bytes == recorded.stat().st_size
    assert good.num_requests > 10 and good.duration_ns > 20 * S
    assert list_sessions(tmp_path / "nowhere") == []


def test_listing_dates_a_session_by_the_wall_clock(tmp_path: Path) -> None:
    now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
    start = SessionStart(now_ns, wall_ns, "0", "m", "cpu", 1, 4, 16, 1, 1, 64, 8, 64)
    record(tmp_path / "now.db", [start])
    (info,) = list_sessions(tmp_path)
    assert abs(info.wall_ns - wall_ns) < 5 * S


def test_the_live_state_equals_the_replayed_one(tmp_path: Path, events: list[AnyEvent]) -> None:
    bus = Bus()
    follower = Follower(bus)
    tape = Tape(tmp_path / "both.db", bus, follower)
    for i, event in enumerate(events):
        bus.publish(event)
        if i % 97 == 0:
            tape.flush()
    tape.finish()
    reader = SessionReader(tmp_path / "both.db")
    with follower.read() as live:
        assert reader.state_at(reader.end_ns).keyframe() == live.keyframe()
        assert reader.end_ns == live.t_ns
    reader.close()
