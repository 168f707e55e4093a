"""One state that keeps up with a bus, for all who need it in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from profiler.bus import Numbered
from profiler.events import Dropped, Finding
from profiler.findings.watch import Watch
from profiler.folds.slo import Slo
from profiler.state import SessionState

_AT_ONCE: Final = 4096


class Follower:
    """Folds each event of a bus once, whoever asks first. Any thread may ask.

    Events that the bus no longer held are folded as one `Dropped`. A `state` that is given is the
    follower's from then on, and goes on after its `seq`. What `watch` finds goes to `publish`.
    """

    def __init__(
        self,
        bus: Numbered,
        slo: Slo | None = None,
        state: SessionState | None = None,
        watch: Watch | None = None,
        publish: Callable[[Finding], object] | None = None,
    ) -> None:
        self._bus = bus
        self._watch = watch
        self._publish = publish
        self._state = state or SessionState(slo)
        self._lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[SessionState]:
        """The state, caught up and held still while the block runs: read it, do not keep it."""
        with self._lock:
            self._catch_up()
            yield self._state

    def keyframe(self) -> tuple[int, bytes]:
        """The state as bytes, and the sequence number after which the stream goes on from it."""
        with self.read() as state:
            return state.seq, state.keyframe()

    def fold(self, limit: int) -> bool:
        """Fold up to `limit` of what is new, unless another thread does. Whether some is left for
        the caller to fold: who may not be kept waiting does so bit by bit."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._fold(limit)
            return self._state.seq < self._bus.head
        finally:
            self._lock.release()

    def _catch_up(self) -> None:
        head = self._bus.head
        while self._state.seq < head:
            self._fold(_AT_ONCE)

    def _fold(self, limit: int) -> None:
        state = self._state
        first, events, lost = self._bus.read(state.seq, limit)
        if lost:
            t_ns = events[0].t_ns if events else state.t_ns
            state.apply(Dropped(t_ns, state.seq + 1, lost), first - 1)
        for seq, event in enumerate(events, first):
            state.apply(event, seq)
            self._look(state)

    def _look(self, state: SessionState) -> None:
        if self._watch is None or self._publish is None:
            return
        for finding in self._watch.look(state):
            self._publish(finding)
