"""Keeps a live session in a file of the viewer's own, from what the ring still holds on."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llmtop.commands.session_files import new_session
from llmtop.format import seconds
from llmtop.paths import sessions_dir
from profiler.events import AnyEvent, Recording
from profiler.follower import Follower
from profiler.session.ring import Ring
from profiler.state import SessionState

if TYPE_CHECKING:
    from profiler.session.recorder import Recorder


class Keeper:
    """Records on a thread of its own from `keep` to `end`."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._recorder: Recorder | None = None
        self._ended = False
        self._num_bytes = 0

    @property
    def path(self) -> Path | None:
        """The newest file, None while there is nothing in it yet."""
        recorder = self._recorder
        if recorder is None or not (self._num_bytes or self._ended):
            return None
        return recorder.path

    @property
    def recording(self) -> bool:
        recorder = self._recorder
        return recorder is not None and recorder.error is None and not self._ended

    @property
    def num_bytes(self) -> int | None:
        """Of the file that is being written, None while none is."""
        return self._num_bytes if self.recording else None

    def keep(self) -> str:
        """Begin a file with what the ring holds; what to say of it."""
        if self._recorder is not None and self.recording:
            return f"recorded already: {self._recorder.path}"
        session = self._ring.session
        if not self._ring.head:
            return "nothing to keep yet"
        model = "model" if session is None else session.model
        try:
            path = new_session(sessions_dir(), model, datetime.now())
        except OSError as error:
            return f"cannot record: {error.strerror}"
        self._begin(path)
        past_ns = self._ring.end_ns - self._ring.start_ns
        return f"keeping the last {seconds(past_ns)} and all that comes: {path}"

    def _begin(self, path: Path) -> None:
        # SQLite's part of the profiler is for those who record.
        from profiler.session.recorder import Recorder

        past = self._ring.segments()
        follower = Follower(self._ring, state=SessionState.restore(past[-1].keyframe))
        self._num_bytes, self._ended = 0, False
        self._recorder = Recorder(path, self._ring, follower, self._told, past)
        self._recorder.start()

    def _told(self, event: AnyEvent) -> None:
        if isinstance(event, Recording):
            self._num_bytes = event.file_bytes

    def end(self) -> None:
        """Write what is left and close. Waits for the disk; does nothing where nothing is kept."""
        if self._recorder is not None:
            self._recorder.stop()
            self._ended = True
