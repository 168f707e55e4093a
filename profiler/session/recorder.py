"""Keeps a session on disk while it happens, off the path of everything else."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from profiler.bus import Numbered
from profiler.events import AnyEvent, Log, Recording
from profiler.follower import Follower
from profiler.session.ring import Segment
from profiler.session.tape import Tape

FLUSH_S: Final = 0.25
_TELL_NS: Final = 1_000_000_000


class Recorder:
    """A thread that writes what the bus holds every 250 ms: a process killed at any moment leaves a
    file that opens and lacks at most that much.

    When the file cannot be made or written, recording ends with a `Log` and a `Recording` event
    that say why, and `error` does; whoever publishes never notices. Once a second a `Recording`
    event tells the size of the file. `tell` gets these events. The file begins with `past`.
    """

    def __init__(
        self,
        path: Path,
        bus: Numbered,
        follower: Follower,
        tell: Callable[[AnyEvent], object],
        past: Iterable[Segment] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.path = path
        self.error: str | None = None
        self._bus = bus
        self._follower = follower
        self._tell_event = tell
        self._past = past
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmtop-recorder", daemon=True)
        self._t_told_ns = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, mark the end as clean and close. Returns when that is done."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        # OverflowError is SQLite's for an integer beyond 64 bits.
        try:
            tape = Tape(self.path, self._bus, self._follower, self._past)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            return
        try:
            while not self._stopping.wait(FLUSH_S):
                tape.flush()
                self._tell(tape)
            tape.finish()
        except (OSError, sqlite3.Error, OverflowError) as error:
            self._give_up(error)
            _abandon(tape)

    def _tell(self, tape: Tape) -> None:
        now_ns = self._clock()
        if now_ns - self._t_told_ns >= _TELL_NS:
            self._t_told_ns = now_ns
            self._tell_event(Recording(now_ns, tape.num_bytes))

    def _give_up(self, error: Exception) -> None:
        self.error = f"recording stopped: {error}"
        now_ns = self._clock()
        self._tell_event(Recording(now_ns, 0, str(error)))
        self._tell_event(Log(now_ns, "error", "recorder", self.error))


def _abandon(tape: Tape) -> None:
    try:
        tape.abandon()
    except sqlite3.Error:
        # The disk that failed the batch may fail the close too; the file keeps its whole batches.
        pass
