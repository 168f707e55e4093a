"""One state that keeps up with a bus, for all who need it in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from profiler.bus import Numbered
from profiler.events import Dropped, Finding
from profiler.findings.watch import Watch
from profiler.folds.slo import Slo
from profiler.state import SessionState


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

    def catch_up(self) -> None:
        """Fold what is new. Called now and then it keeps `read` quick."""
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        state, head = self._state, self._bus.head
        while state.seq < head:
            first, events, lost = self._bus.read(state.seq)
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
