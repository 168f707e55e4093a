"""The newest minutes of a session in memory, so that any moment of them can be shown again."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from profiler.bus import Batch
from profiler.events import AnyEvent, SessionStart, Step
from profiler.session.markers import Marker, MarkerFold, load_changes
from profiler.state import SessionState, time_of

KEEP_NS: Final = 300_000_000_000
MAX_BYTES: Final = 64 << 20
# As far apart as in a file: a seek restores one keyframe and folds half of a segment on average.
SEGMENT_NS: Final = 5_000_000_000
SEGMENT_EVENTS: Final = 2048
SEGMENT_BYTES: Final = 4 << 20

_encoder: Final = msgspec.msgpack.Encoder()
_event_decoder: Final = msgspec.msgpack.Decoder(AnyEvent)
_events_decoder: Final = msgspec.msgpack.Decoder(list[AnyEvent])


class Segment:
    """A keyframe, which stands after event `seq` at `t_ns`, and the events that follow, packed.
    Closed, they are compressed as one."""

    def __init__(self, state: SessionState) -> None:
        self.seq, self.t_ns = state.seq, state.t_ns
        self.keyframe = state.keyframe()
        self.num_events = 0
        self.num_bytes = len(self.keyframe)
        self._open: list[bytes] = []
        self._closed = b""

    @property
    def last_seq(self) -> int:
        """The number of its last event; the keyframe's where it has none."""
        return self.seq + self.num_events

    @property
    def is_large(self) -> bool:
        return self.num_events >= SEGMENT_EVENTS or self.num_bytes >= SEGMENT_BYTES

    def append(self, event: AnyEvent) -> int:
        """Bytes that it took."""
        data = _encoder.encode(event)
        self._open.append(data)
        self.num_events += 1
        self.num_bytes += len(data)
        return len(data)

    def close(self) -> int:
        """Bytes that this saved."""
        before = self.num_bytes
        packed = _encoder.encode([msgspec.Raw(data) for data in self._open])
        self._closed = zlib.compress(packed, 1)
        self._open = []
        self.num_bytes = len(self.keyframe) + len(self._closed)
        return before - self.num_bytes

    def events(self, after_seq: int) -> list[tuple[int, AnyEvent]]:
        """Events and their numbers from the one after `after_seq` on."""
        skip = max(0, after_seq - self.seq)
        first = self.seq + skip + 1
        if self._closed:
            decoded = _events_decoder.decode(zlib.decompress(self._closed))[skip:]
        else:
            decoded = [_event_decoder.decode(data) for data in self._open[skip:]]
        return list(enumerate(decoded, first))


class Ring:
    """Holds the newest five minutes, fewer where they take more than 64 MiB. It is what a session
    file is to replay: the same positions, states, events and markers.

    One thread appends; any may read. While `pinned`, somebody looks at what it holds: only the
    bytes bound it then. `epoch` counts how often the stream began anew: what was before a loss or
    another session does not join with what comes after, and is gone.
    """

    def __init__(self, keep_ns: int = KEEP_NS, max_bytes: int = MAX_BYTES) -> None:
        self.pinned = False
        self.epoch = 0
        self._keep_ns = keep_ns
        self._max_bytes = max_bytes
        self._segments: deque[Segment] = deque()
        self._num_bytes = 0
        self._markers = MarkerFold()
        self._state = SessionState()
        self._lock = threading.Lock()

    @property
    def start_ns(self) -> int:
        segments = self._segments
        return segments[0].t_ns if segments else 0

    @property
    def end_ns(self) -> int:
        """Where the live state stands, which time moves on between events."""
        return self._state.t_ns

    @property
    def head(self) -> int:
        """The number of the newest event, 0 before the first."""
        segments = self._segments
        return segments[-1].last_seq if segments else 0

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    @property
    def session(self) -> SessionStart | None:
        return self._state.session

    def begin(self, state: SessionState) -> None:
        """Forget everything; go on from `state`."""
        with self._lock:
            self.epoch += 1
            self._segments.clear()
            self._num_bytes = 0
            self._markers = MarkerFold()
            self._open(state)

    def append(self, event: AnyEvent, state: SessionState) -> None:
        """Take `event`; `state` has folded it, and is the live one in each call."""
        if not self._segments or state.seq != self.head + 1:
            self.begin(state)
            self._markers.apply(event)
            return
        with self._lock:
            segment = self._segments[-1]
            self._num_bytes += segment.append(event)
            self._markers.apply(event)
            if self.end_ns - segment.t_ns >= SEGMENT_NS or segment.is_large:
                self._num_bytes -= segment.close()
                self._open(state)
                self._trim()
            elif self._num_bytes > self._max_bytes:
                self._trim()

    def _open(self, state: SessionState) -> None:
        segment = Segment(state)
        self._segments.append(segment)
        self._num_bytes += segment.num_bytes
        self._state = state

    def _trim(self) -> None:
        """The oldest segment goes once the one after it is old enough to begin the ring."""
        segments = self._segments
        while len(segments) > 1:
            aged = self.end_ns - segments[1].t_ns >= self._keep_ns and not self.pinned
            if not aged and self._num_bytes <= self._max_bytes:
                return
            self._num_bytes -= segments.popleft().num_bytes
            self._markers.forget_before(self.start_ns)

    def state_at(self, t_ns: int) -> SessionState:
        """The state at that time, or where the ring begins if that is later."""
        with self._lock:
            found = [s for s in self._segments if s.t_ns <= t_ns]
            segment = found[-1] if found else self._segments[0]
        state = SessionState.restore(segment.keyframe)
        for seq, event in self.events(state.seq):
            if time_of(event) > t_ns:
                break
            state.apply(event, seq)
        state.advance(min(t_ns, self.end_ns))
        return state

    def events(self, after_seq: int = 0) -> Iterator[tuple[int, AnyEvent]]:
        """Events and their numbers, in the stream's order, up to the newest."""
        while True:
            with self._lock:
                holding = (s for s in self._segments if s.last_seq > after_seq)
                segment = next(holding, None)
                found = [] if segment is None else segment.events(after_seq)
            if not found:
                return
            yield from found
            after_seq = found[-1][0]

    def read(self, after: int, limit: int = 4096) -> Batch:
        """As a bus gives them: up to `limit` events whose number is greater than `after`."""
        found = list(islice(self.events(after), limit))
        first = found[0][0] if found else after + 1
        return Batch(first, [event for _, event in found], first - after - 1)

    def segments(self) -> list[Segment]:
        """All there are, oldest first; the last one still grows."""
        with self._lock:
            return list(self._segments)

    def step(self, number: int) -> Step | None:
        """The engine step of that number, None if the ring does not hold it."""
        for segment in reversed(self.segments()):
            steps = [e for _, e in segment.events(0) if isinstance(e, Step)]
            if steps and steps[0].step <= number:
                return next((step for step in steps if step.step == number), None)
        return None

    def markers(self) -> list[Marker]:
        """What a viewer may want to jump to, in order of time."""
        start_ns = self.start_ns
        with self._lock:
            found = [*self._markers.markers(), *load_changes(self._state.seconds.rows)]
        return sorted(marker for marker in found if marker.t_ns >= start_ns)
