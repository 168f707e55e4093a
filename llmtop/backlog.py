"""What is published while the core keeps its own events to itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from heapq import merge

from profiler.events import AnyEvent
from profiler.state import time_of


class Backlog:
    """Hands events to `publish`, from any thread. From `begin` to `end` they wait, so that what is
    told late stands in the stream where it belongs."""

    def __init__(self, publish: Callable[[AnyEvent], object]) -> None:
        self._publish = publish
        self._waiting: list[AnyEvent] | None = None
        self._lock = threading.Lock()

    def publish(self, event: AnyEvent) -> None:
        with self._lock:
            if self._waiting is None:
                self._publish(event)
            else:
                self._waiting.append(event)

    def begin(self) -> None:
        with self._lock:
            if self._waiting is None:
                self._waiting = []

    def end(self, late: Iterable[AnyEvent] = ()) -> None:
        """Publishes what has waited and what is told `late`, by time; each keeps its own order."""
        with self._lock:
            waiting, self._waiting = self._waiting or (), None
            for event in merge(waiting, late, key=time_of):
                self._publish(event)
