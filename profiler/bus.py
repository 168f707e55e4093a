"""A ring of the newest events, written by one thread and read by any number at their own pace."""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

from profiler.events import AnyEvent


class Batch(NamedTuple):
    """`events` in order; the first has sequence number `first_seq`; `lost` were overwritten."""

    first_seq: int
    events: list[AnyEvent]
    lost: int


class Numbered(Protocol):
    """Events under their numbers, read by whoever keeps up with them."""

    @property
    def head(self) -> int:
        """The number of the newest event, 0 before the first."""
        ...

    def read(self, after: int, limit: int = 4096) -> Batch:
        """Up to `limit` events whose number is greater than `after`."""
        ...


class Bus:
    """Gives each event a sequence number, from 1, and keeps the newest `capacity` of them.

    A producer never waits for a reader and never learns who reads. A reader that falls further
    behind than the ring is long is told how many events it lost. Any thread may publish: the lock
    is held for two stores. Readers take none: they see the store before the count.
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._ring: list[AnyEvent | None] = [None] * capacity
        self._head = 0
        self._publishing = threading.Lock()

    @property
    def head(self) -> int:
        """The sequence number of the newest event, 0 before the first."""
        return self._head

    @property
    def oldest(self) -> int:
        """The sequence number of the oldest event still held."""
        return max(1, self._head - len(self._ring) + 1)

    def publish(self, event: AnyEvent) -> int:
        """The event's sequence number."""
        with self._publishing:
            seq = self._head + 1
            self._ring[seq % len(self._ring)] = event
            self._head = seq
        return seq

    def read(self, after: int, limit: int = 4096) -> Batch:
        """Up to `limit` events whose number is greater than `after`."""
        head = self._head
        first = max(after + 1, head - len(self._ring) + 1)
        last = min(head, first + limit - 1)
        events = [self._ring[seq % len(self._ring)] for seq in range(first, last + 1)]
        # Slots that the producer reused while this copy ran hold newer events: drop them.
        valid_from = max(first, self._head - len(self._ring) + 1)
        kept = [e for e in events[valid_from - first :] if e is not None]
        return Batch(valid_from, kept, valid_from - after - 1)
