"""Keeps a session on disk while it happens, off the path of everything else."""

from __future__ import annotations

import os
import platform
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from profiler.bus import Bus
from profiler.events import AnyEvent, Dropped, Log, Recording
from profiler.follower import Follower
from profiler.session.schema import KeyframeRow
from profiler.session.writer import SessionWriter
from profiler.state import time_of

FLUSH_S: Final = 0.25
KEYFRAME_NS: Final = 5_000_000_000
_SAMPLE_NS: Final = 1_000_000_000
_LIMIT: Final = 8192


class Recorder:
    """A thread that writes what the bus holds every 250 ms: a process killed at any moment leaves a
    file that opens and lacks at most that much.

    When the file cannot be made or written, recording ends with a `Log` and a `Recording` event
    that say why, and `error` does; whoever publishes never notices. Once a second a `Recording`
    event tells the size of the file.
    """

    def __init__(
        self,
        path: Path,
        bus: Bus,
        follower: Follower,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.path = path
        self.error: str | None = None
        self._bus = bus
        self._follower = follower
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmtop-recorder", daemon=True)
        self._seq = 0
        self._second = 0
        self._ended = 0
        self._lost = 0
        self._t_keyframe_ns = 0
        self._t_sample_ns = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, mark the end as clean and close. Returns when that is done."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            writer = SessionWriter(self.path)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
            return
        try:
            writer.facts(**_facts(self._clock()))
            while not self._stopping.wait(FLUSH_S):
                self._flush(writer)
                self._tell(writer)
            self._flush(writer, last=True)
            writer.finish(self._lost)
        except (OSError, sqlite3.Error, OverflowError) as error:
            self._give_up(error)
            _abandon(writer)

    def _flush(self, writer: SessionWriter, last: bool = False) -> None:
        """Everything that the bus holds now."""
        head = self._bus.head
        while self._seq < head:
            events, seq = self._read()
            now_ns = time_of(events[-1][1]) if events else self._t_keyframe_ns
            due = now_ns - self._t_keyframe_ns >= KEYFRAME_NS or (last and seq >= head)
            with self._follower.read() as state:
                keyframe = KeyframeRow(state.seq, state.t_ns, state.keyframe()) if due else None
                seconds = state.seconds.after(self._second)
                gpu_seconds = [g for g in state.seconds.gpu_rows if g.second > self._second]
                ended = state.requests.num_finished + state.requests.num_aborted
                count = min(ended - self._ended, len(state.requests.done))
                requests = list(state.requests.done)[-count:] if count else []
            writer.batch(events, seconds, gpu_seconds, requests, keyframe)
            if keyframe is not None:
                self._t_keyframe_ns = keyframe.t_ns
            self._second = seconds[-1].second if seconds else self._second
            self._seq, self._ended = seq, ended

    def _read(self) -> tuple[list[tuple[int, AnyEvent]], int]:
        """The next events by number, a loss among them as an event, and the last one's number."""
        first, events, lost = self._bus.read(self._seq, _LIMIT)
        numbered = list(enumerate(events, first))
        if lost:
            self._lost += lost
            t_ns = events[0].t_ns if events else self._clock()
            numbered.insert(0, (self._seq + 1, Dropped(t_ns, self._seq + 1, lost)))
        return numbered, first + len(events) - 1

    def _tell(self, writer: SessionWriter) -> None:
        now_ns = self._clock()
        if now_ns - self._t_sample_ns >= _SAMPLE_NS:
            self._t_sample_ns = now_ns
            self._bus.publish(Recording(now_ns, writer.num_bytes))

    def _give_up(self, error: Exception) -> None:
        self.error = f"recording stopped: {error}"
        now_ns = self._clock()
        self._bus.publish(Recording(now_ns, 0, str(error)))
        self._bus.publish(Log(now_ns, "error", "recorder", self.error))


def _abandon(writer: SessionWriter) -> None:
    try:
        writer.abandon()
    except sqlite3.Error:
        # The disk that failed the batch may fail the close too; the file keeps its whole batches.
        pass


def _facts(t_ns: int) -> dict[str, object]:
    return {
        "t_ns": t_ns,
        "wall_ns": time.time_ns(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "clean_end": 0,
    }
