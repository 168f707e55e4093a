"""What a recorder does, without its thread: follow a bus into a session file."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from profiler.bus import Numbered
from profiler.events import AnyEvent, Dropped
from profiler.folds.request_view import RequestView
from profiler.follower import Follower
from profiler.session.ring import Segment
from profiler.session.schema import KeyframeRow
from profiler.session.writer import SessionWriter
from profiler.state import SessionState, time_of

# A seek restores one keyframe (11 ms) and folds on average half of what lies between two, 37 us an
# event: both bounds together keep it within 100 ms at 200 steps a second and 32 requests too
# (benchmarks/replay_seek.py).
KEYFRAME_NS: Final = 5_000_000_000
KEYFRAME_EVENTS: Final = 1500
_LIMIT: Final = 8192


class Tape:
    """Each `flush` writes, in one transaction, the events that the bus got since the one before,
    the seconds that closed, the requests that ended and, every 5 s or 1500 events, a keyframe.

    A keyframe may be newer than the last event written with it, since the state moves on while
    events are read; it says after which event it stands. Of more than 256 requests that end
    between two flushes the oldest have no row in `request`; their events are all there.
    """

    def __init__(
        self, path: Path, bus: Numbered, follower: Follower, past: Iterable[Segment] = ()
    ) -> None:
        """A new file, which begins with `past`. Raises: OSError, sqlite3.Error; so does every other
        method."""
        self._bus = bus
        self._follower = follower
        self._writer = SessionWriter(path)
        self._seq = 0
        self._lost = 0
        self._second = 0
        self._num_ended = 0
        self._keyframe_seq = 0
        self._t_keyframe_ns = 0
        self._writer.facts(**_facts())
        # Its requests that ended and its seconds: written once, though nothing more may come.
        self._owes_past = False
        for segment in past:
            self._begin_with(segment)

    def _begin_with(self, segment: Segment) -> None:
        events = segment.events(self._seq)
        keyframe = KeyframeRow(segment.seq, segment.t_ns, segment.keyframe)
        self._writer.batch(events, [], [], [], keyframe)
        self._owes_past = True
        self._seq = events[-1][0] if events else segment.seq
        self._keyframe_seq, self._t_keyframe_ns = segment.seq, segment.t_ns

    @property
    def num_bytes(self) -> int:
        return self._writer.num_bytes

    def flush(self, last: bool = False) -> None:
        """Everything that the bus holds now, with a keyframe at the end if it is the last."""
        head = self._bus.head
        while self._seq < head or self._owes_past:
            events, seq = self._read()
            now_ns = time_of(events[-1][1]) if events else self._t_keyframe_ns
            due = self._is_due(seq, now_ns) or (last and seq >= head)
            with self._follower.read() as state:
                keyframe = KeyframeRow(state.seq, state.t_ns, state.keyframe()) if due else None
                seconds = state.seconds.after(self._second)
                gpu_seconds = [g for g in state.seconds.gpu_rows if g.second > self._second]
                ended = self._newly_ended(state)
            self._writer.batch(events, seconds, gpu_seconds, ended, keyframe)
            self._seq, self._owes_past = seq, False
            if keyframe is not None:
                self._keyframe_seq, self._t_keyframe_ns = keyframe.seq, keyframe.t_ns
            if seconds:
                self._second = seconds[-1].second

    def _is_due(self, seq: int, now_ns: int) -> bool:
        aged = now_ns - self._t_keyframe_ns >= KEYFRAME_NS
        return aged or seq - self._keyframe_seq >= KEYFRAME_EVENTS

    def _read(self) -> tuple[list[tuple[int, AnyEvent]], int]:
        """The next events by number, a loss among them as an event, and the last one's number."""
        first, events, lost = self._bus.read(self._seq, _LIMIT)
        numbered = list(enumerate(events, first))
        if lost:
            self._lost += lost
            t_ns = events[0].t_ns if events else self._t_keyframe_ns
            numbered.insert(0, (self._seq + 1, Dropped(t_ns, self._seq + 1, lost)))
        return numbered, first + len(events) - 1

    def _newly_ended(self, state: SessionState) -> list[RequestView]:
        ended = state.requests.num_finished + state.requests.num_aborted
        count = min(ended - self._num_ended, len(state.requests.done))
        self._num_ended = ended
        return list(state.requests.done)[-count:] if count else []

    def finish(self) -> None:
        """Write what is left, mark the end as clean and close."""
        self.flush(last=True)
        self._writer.finish(self._lost)

    def abandon(self) -> None:
        """Close after an error. The file keeps its whole batches."""
        self._writer.abandon()


def _facts() -> dict[str, object]:
    return {
        "t_ns": time.monotonic_ns(),
        "wall_ns": time.time_ns(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 0,
        "clean_end": 0,
    }
