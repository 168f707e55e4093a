"""Events on their way from the process that relays to the one that observes: lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from profiler.events import AnyEvent, Dropped, decode_events, encode_events

# Each write wakes the reader, which takes a core from somebody.
GATHER_S: Final = 0.02
MAX_AHEAD_BYTES: Final = 64 << 20
_READ_BYTES: Final = 1 << 16


class EventPipe:
    """Lives on the event loop; `tell_soon` may be called anywhere. Nobody waits for the reader:
    what it leaves unread beyond 64 MiB is lost, and it is told so once it reads again."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._events: list[AnyEvent] = []
        self._sending: asyncio.TimerHandle | None = None
        self._num_lost = 0

    def tell(self, event: AnyEvent) -> None:
        """Sent within 20 ms."""
        self._events.append(event)
        if self._sending is None:
            self._sending = self._loop.call_later(GATHER_S, self._send)

    def tell_soon(self, event: AnyEvent) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody watches any more
            self._loop.call_soon_threadsafe(self.tell, event)

    def close(self) -> None:
        """The reader finds the end behind all that was told."""
        if self._sending is not None:
            self._sending.cancel()
        self._send()
        self._transport.close()

    def _send(self) -> None:
        self._sending = None
        events, self._events = self._events, []
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > MAX_AHEAD_BYTES:
            self._num_lost += len(events)
            return
        if self._num_lost:
            events.insert(0, Dropped(time.monotonic_ns(), 0, self._num_lost))
            self._num_lost = 0
        self._transport.write(encode_events(events))


async def events_in(reader: asyncio.StreamReader) -> AsyncIterator[list[AnyEvent]]:
    """What comes, until the end. A writer that was killed leaves half a line, which is none."""
    held = b""
    while data := await reader.read(_READ_BYTES):
        lines, end, held = (held + data).rpartition(b"\n")
        if end:
            yield decode_events(lines)
