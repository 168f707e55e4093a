"""The profiler's events over HTTP, resumable by sequence number."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec

from engine.server.sse import HEARTBEAT, named_event
from profiler.bus import Batch, Bus
from profiler.events import encode_event, kind_of

HEARTBEAT_S: Final = 10.0
# Events of so long a time go out in one write, which costs its reader 0.4 ms whatever is in it (a
# shared EPYC). A screen is painted every 250 ms.
GATHER_S: Final = 0.1
MAX_BATCH: Final = 1024

Keyframe = Callable[[], tuple[int, bytes]]


class EventFeed:
    """Follows a bus for any number of readers.

    `keyframe` gives a sequence number and the packed state after that event; a reader starts from
    it. `wake` is to be called on the event loop after events were published. After `close` each
    reader gets what is left, then its end.
    """

    def __init__(self, bus: Bus, keyframe: Keyframe) -> None:
        self._bus = bus
        self._keyframe = keyframe
        self._news = asyncio.Event()
        self._closed = False
        self.num_readers = 0

    def wake(self) -> None:
        if self.num_readers:
            self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def read(self, last_seen: int | None) -> AsyncGenerator[bytes, None]:
        """The stream: after event `last_seen` if that is still held, else from a keyframe."""
        self.num_readers += 1
        try:
            after, head = self._beginning(last_seen)
            yield head
            while True:
                batch = self._bus.read(after, MAX_BATCH)
                if batch.events or batch.lost:
                    after, data = self._encode(batch)
                    yield data
                elif self._closed:
                    return
                elif not await self._wait():
                    yield HEARTBEAT
        finally:
            self.num_readers -= 1

    def _beginning(self, last_seen: int | None) -> tuple[int, bytes]:
        if last_seen is None:
            return self._restart(b"")
        if last_seen > self._bus.head:  # numbers of another session
            return self._restart(_lag(0))
        lost = self._bus.oldest - 1 - last_seen
        return self._restart(_lag(lost)) if lost > 0 else (last_seen, b": resumed\n\n")

    def _restart(self, before: bytes) -> tuple[int, bytes]:
        number, state = self._keyframe()
        return number, before + named_event("keyframe", base64.b64encode(state), number)

    def _encode(self, batch: Batch) -> tuple[int, bytes]:
        if batch.lost:
            return self._restart(_lag(batch.lost))
        parts = [
            named_event(kind_of(event), encode_event(event), number)
            for number, event in enumerate(batch.events, batch.first_seq)
        ]
        return batch.first_seq + len(parts) - 1, b"".join(parts)

    async def _wait(self) -> bool:
        """False if nothing happened for the time of a heartbeat."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._news.wait()
                if not self._closed:
                    await asyncio.sleep(GATHER_S)
                return True
        return False


def _lag(lost: int) -> bytes:
    return named_event("lag", msgspec.json.encode({"lost": lost}))
