"""A recorded session as a source: the same events, folded again at any speed."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from llmtop.bookmarking import Bookmarking
from llmtop.errors import LlmtopError
from llmtop.places import Stretch, step_number
from llmtop.playhead import Playhead
from llmtop.sources.base import Replay
from llmtop.viewmodel import Connection, Playback
from profiler.session.markers import Marker
from profiler.session.reader import SessionReader
from profiler.session.ring import Ring
from profiler.state import SessionState

SLOWEST: Final = 0.25
FASTEST: Final = 16.0


class ReplaySource:
    """Is also its own player. Positions are on the recording host's monotonic clock."""

    mode: Literal["REPLAY"] = "REPLAY"
    ring: Ring | None = None
    farewell = ""

    def __init__(self, path: Path, at: str | None = None, speed: float = 1.0) -> None:
        """Raises: SessionFileError, LlmtopError if `at` is no place in the session."""
        self._path = path
        self._reader = SessionReader(path)
        self._recorded_markers = self._reader.markers()
        self._bookmarks = Bookmarking()
        self._speed = max(SLOWEST, min(FASTEST, speed))
        self._playing = True
        self._loop = False
        self._polled_ns: int | None = None
        self._head = Playhead(self._reader, self._reader.state_at(self._reader.start_ns))
        if at is not None and (error := self.go_to(at)):
            raise LlmtopError(f"{at!r} is no place in the session: {error}")

    @property
    def address(self) -> str:
        return self._path.name

    @property
    def connection(self) -> Connection:
        return Connection("connected")

    @property
    def bytes_recorded(self) -> int | None:
        return self._path.stat().st_size

    @property
    def session_file(self) -> Path:
        return self._path

    @property
    def replay(self) -> Replay:
        return self

    @property
    def playback(self) -> Playback:
        return Playback(
            start_ns=self._reader.start_ns,
            end_ns=self._reader.end_ns,
            t_ns=self._head.t_ns,
            speed=self._speed,
            playing=self._playing,
            looping=self._loop,
            markers=tuple(self._markers()),
        )

    def _markers(self) -> list[Marker]:
        return sorted([*self._recorded_markers, *self._bookmarks.made])

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self._reader.close()

    def keep(self) -> str:
        return f"this is a recording: {self._path}"

    def poll(self, now_ns: int) -> SessionState:
        passed_ns = 0 if self._polled_ns is None else now_ns - self._polled_ns
        self._polled_ns = now_ns
        if self._playing:
            self._play_on(round(passed_ns * self._speed))
        return self._head.state

    def _play_on(self, by_ns: int) -> None:
        head, end_ns = self._head, self._reader.end_ns
        if head.t_ns + by_ns < end_ns:
            head.run_to(head.t_ns + by_ns)
        elif self._loop:
            head.jump(self._reader.start_ns)
        else:
            head.run_to(end_ns)
            self._playing = False

    def toggle(self) -> None:
        if not self._playing and self._head.t_ns >= self._reader.end_ns:
            self._reader.refresh()
            self._head.jump(self._reader.start_ns)
        self._playing = not self._playing

    def seek(self, t_ns: int) -> None:
        self._head.seek(t_ns)

    def nudge(self, by_ns: int) -> None:
        self._head.seek(self._head.t_ns + by_ns)

    def step(self, by: int) -> None:
        self._playing = False
        self._head.step(by)

    def mark(self, by: int) -> None:
        self._head.mark(self._markers(), by)

    def repeat(self) -> None:
        self._loop = not self._loop

    def faster(self, by: int) -> None:
        self._speed = max(SLOWEST, min(FASTEST, self._speed * 2.0**by))

    def go_to(self, text: str) -> str:
        start_ns, end_ns = self._reader.start_ns, self._reader.end_ns
        error = self._head.go_to(text, Stretch(start_ns, start_ns, end_ns))
        if not error and step_number(text.strip().lower()) is not None:
            self._playing = False
        return error

    def bookmark(self) -> str:
        return self._bookmarks.add(self._head.state, self._path)
