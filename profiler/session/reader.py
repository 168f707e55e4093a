"""Reads a session file back into events and states."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from profiler.errors import SessionFileError, StreamError
from profiler.events import AnyEvent, SessionStart, Step
from profiler.folds.clock import NS_PER_S
from profiler.folds.gpus import GpuSecond
from profiler.folds.seconds import SecondRow
from profiler.session import bookmarks, schema
from profiler.session.columns import RowCodec
from profiler.session.markers import Marker, load_changes, read_markers
from profiler.session.opening import SessionFile, damaged
from profiler.state import SessionState, time_of

# A seek needs some hundred events, playing on needs all: chunks double from one to the other.
_FIRST_CHUNK: Final = 128
_LAST_CHUNK: Final = 4096
_QUERY_CHUNK: Final = 512


class SessionReader:
    """A recorded session, also one that is still being recorded: `refresh` looks for its new end.

    Positions are nanoseconds of the recording host's monotonic clock, from `start_ns` to `end_ns`.
    Threads may share a reader if they take turns. Every method raises SessionFileError where the
    file turns out to be damaged.
    """

    def __init__(self, path: Path) -> None:
        """Raises: SessionFileError."""
        self.path = path
        self._file = SessionFile(path)
        self._selections: dict[str, str] = {}
        try:
            tables = {name for (name,) in self._rows("SELECT name FROM sqlite_master")}
            missing = schema.LATER_KINDS - tables
            self._kinds = [kind for kind in schema.EVENT_CODECS if kind not in missing]
            self.start_ns, self.end_ns, self.last_seq = 0, 0, 0
            self.refresh()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def refresh(self) -> None:
        """Read anew where the session ends."""
        firsts = self._edge("ASC")
        if not firsts:
            raise SessionFileError(
                f"{self.path.name} holds no events", "it was killed within its first 250 ms"
            )
        lasts = self._edge("DESC")
        self.start_ns = self._begins(*min(firsts))
        self.last_seq = max(lasts)[0]
        ends = [time_of(event) for _, event in lasts]
        ends += [t_ns for (t_ns,) in self._rows("SELECT max(t_ns) FROM keyframe") if t_ns]
        self.end_ns = max(ends)

    def _begins(self, first_seq: int, first: AnyEvent) -> int:
        """Where the file has a state: a session kept out of a ring begins with a keyframe."""
        sql = "SELECT t_ns FROM keyframe WHERE seq < ? ORDER BY seq LIMIT 1"
        rows = self._rows(sql, (first_seq,))
        return int(rows[0][0]) if rows else time_of(first)

    def _edge(self, order: str) -> list[tuple[int, AnyEvent]]:
        """The first or last event of each kind, with its number."""
        found = []
        for kind in self._kinds:
            found += self._select(kind, f"ORDER BY seq {order} LIMIT 1", ())
        return found

    @property
    def facts(self) -> dict[str, str]:
        """What the recorder noted about where and when."""
        return dict(self._rows("SELECT key, value FROM session"))

    @property
    def clean_end(self) -> bool:
        """Whether the recorder closed the file, rather than being killed or still at it."""
        return self.facts.get("clean_end") == "1"

    @property
    def wall_ns(self) -> int:
        """Unix time at which the recording begins, on the clock of the events where it is known:
        that may be another host's."""
        start, facts = self.session, self.facts
        if start is not None:
            return start.wall_ns + self.start_ns - start.t_ns
        return int(facts.get("wall_ns", 0)) + self.start_ns - int(facts.get("t_ns", 0))

    @property
    def session(self) -> SessionStart | None:
        """The newest of the file's session starts; of a kept session that of its first state."""
        starts = self._select("session_start", "ORDER BY seq DESC LIMIT 1", ())
        start = starts[0][1] if starts else None
        return start if isinstance(start, SessionStart) else self.state_at(self.start_ns).session

    @property
    def num_requests(self) -> int:
        ((count,),) = self._rows("SELECT count(*) FROM request_queued")
        return int(count)

    def state_at(self, t_ns: int) -> SessionState:
        """The state at that time: the nearest keyframe before it and the events from there on.

        An event belongs to the past as soon as it and all events before it in the stream happened.
        """
        with self._guard():
            state = self._keyframe(t_ns)
        for seq, event in self.events(state.seq):
            if time_of(event) > t_ns:
                break
            state.apply(event, seq)
        state.advance(min(t_ns, self.end_ns))
        return state

    def _keyframe(self, t_ns: int) -> SessionState:
        rows = self._rows(
            "SELECT state FROM keyframe WHERE t_ns <= ? ORDER BY seq DESC LIMIT 1", (t_ns,)
        )
        for (data,) in rows:
            return SessionState.restore(data)
        return SessionState()

    def events(
        self, after_seq: int = 0, until_seq: int | None = None
    ) -> Iterator[tuple[int, AnyEvent]]:
        """Events and their numbers, in the stream's order."""
        last = self.last_seq if until_seq is None else min(until_seq, self.last_seq)
        first, chunk = after_seq + 1, _FIRST_CHUNK
        while first <= last:
            upto = min(last, first + chunk - 1)
            yield from self._between(first, upto)
            first, chunk = upto + 1, min(2 * chunk, _LAST_CHUNK)

    def _between(self, first: int, last: int) -> list[tuple[int, AnyEvent]]:
        found: list[tuple[int, AnyEvent]] = []
        for kind in self._kinds:
            found += self._select(kind, "WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last))
        found.sort(key=lambda item: item[0])
        return found

    def step(self, number: int) -> Step | None:
        """The engine step of that number, found by halves: numbers rise with the stream."""
        low, high = 1, self.last_seq
        while low < high:
            middle = (low + high) // 2
            following = self._rows(
                "SELECT seq, step FROM step WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)
            )
            if following and following[0][1] < number:
                low = following[0][0] + 1
            else:
                high = middle
        found = self._select("step", "WHERE seq >= ? ORDER BY seq LIMIT 1", (low,))
        event = found[0][1] if found else None
        return event if isinstance(event, Step) and event.step == number else None

    def seconds(self) -> list[SecondRow]:
        """The whole session by seconds, from the one in which it begins."""
        return self._seconds_from(self.start_ns // NS_PER_S)

    def _seconds_from(self, second: int) -> list[SecondRow]:
        with self._guard():
            names = self._selection("step_1s", schema.SECONDS)
            sql = f"SELECT {names} FROM step_1s WHERE second >= ? ORDER BY second"
            return schema.SECONDS.from_rows(self._rows(sql, (second,)))

    def gpu_seconds(self) -> list[GpuSecond]:
        """The same of every device, by seconds and device."""
        names = ", ".join(schema.GPU_SECONDS.names)
        with self._guard():
            sql = f"SELECT {names} FROM gpu_1s WHERE second >= ? ORDER BY second, device"
            rows = self._rows(sql, (self.start_ns // NS_PER_S,))
            return schema.GPU_SECONDS.from_rows(rows)

    def markers(self) -> list[Marker]:
        """What a viewer may want to jump to, in order of time."""
        connection = self._file.connection
        with self._guard():
            found = [*read_markers(connection), *bookmarks.read(self.path, connection)]
        loads = load_changes(self._seconds_from(0))
        return sorted([*found, *(load for load in loads if load.t_ns >= self.start_ns)])

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """What `sql` finds, read as it is taken: for tables of a whole session."""
        with self._guard():
            cursor = self._file.connection.execute(sql)
            while found := cursor.fetchmany(_LAST_CHUNK):
                yield from found

    def _select(self, kind: str, rest: str, values: Sequence[object]) -> list[tuple[int, AnyEvent]]:
        codec = schema.EVENT_CODECS[kind]
        with self._guard():
            names = self._selection(kind, codec)
            rows = self._rows(f'SELECT seq, {names} FROM "{kind}" {rest}', values)
            return [(row[0], codec.from_row(row[1:])) for row in rows]

    def _selection(self, table: str, codec: RowCodec[Any]) -> str:
        """The columns of `table` as this file has them: an older program knew fewer."""
        if table not in self._selections:
            existing = [
                name for (name,) in self._rows(f"SELECT name FROM pragma_table_info('{table}')")
            ]
            self._selections[table] = codec.selection(existing)
        return self._selections[table]

    def query(self, sql: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """Rows as they are read: of a long table only a few are in memory."""
        with self._guard():
            cursor = self._file.connection.execute(sql, values)
            while rows := cursor.fetchmany(_QUERY_CHUNK):
                yield from rows

    def _rows(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        with self._guard():
            return self._file.connection.execute(sql, values).fetchall()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.MsgspecError, StreamError, TypeError, ValueError) as error:
            raise damaged(self.path, error) from None
