"""What the relay tells reaches the observer in order, and what did not is counted."""

from __future__ import annotations

import asyncio

from llmtop.proxy import event_pipe
from llmtop.proxy.event_pipe import EventPipe, events_in
from profiler.events import (
    AnyEvent,
    Dropped,
    RequestAborted,
    RequestForwarded,
    TokenArrival,
    TokensReceived,
)

EVENTS: list[AnyEvent] = [
    RequestForwarded(1, 7),
    TokensReceived(5, (TokenArrival(7, 2, 1), TokenArrival(8, 3, 4))),
    RequestAborted(6, 7, "disconnect\nat once", 2**70),
]


class Taken(asyncio.WriteTransport):
    """Takes what is written; `ahead` bytes of it are still with us."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.ahead = 0
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.data += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.ahead

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


async def heard(data: bytes) -> list[AnyEvent]:
    reader = asyncio.StreamReader()
    for at in range(0, len(data), 10):
        reader.feed_data(data[at : at + 10])
    reader.feed_eof()
    return [event async for events in events_in(reader) for event in events]


async def test_all_that_was_told_before_the_end_comes_in_order() -> None:
    taken = Taken()
    pipe = EventPipe(taken)
    for event in EVENTS:
        pipe.tell(event)
    assert not taken.data, "one write for all that comes within a moment"
    pipe.close()
    assert taken.is_closed and await heard(taken.data) == EVENTS


async def test_half_a_line_of_one_that_was_killed_is_no_event() -> None:
    taken = Taken()
    pipe = EventPipe(taken)
    for event in EVENTS:
        pipe.tell(event)
    pipe.close()
    assert await heard(taken.data[:-2]) == EVENTS[:-1]


async def test_a_reader_that_hangs_is_not_waited_for_and_hears_what_it_missed(
    monkeypatch,
) -> None:
    monkeypatch.setattr(event_pipe, "GATHER_S", 0.0)
    taken = Taken()
    pipe = EventPipe(taken)
    taken.ahead = event_pipe.MAX_AHEAD_BYTES + 1
    for event in EVENTS[:2]:
        pipe.tell(event)
        await asyncio.sleep(0.001)
    assert not taken.data
    taken.ahead = 0
    pipe.tell(EVENTS[2])
    pipe.close()
    lost, last = await heard(taken.data)
    assert isinstance(lost, Dropped) and lost.count == 2
    assert last == EVENTS[2]


async def test_a_reader_that_is_gone_is_told_nothing() -> None:
    taken = Taken()
    pipe = EventPipe(taken)
    pipe.tell(EVENTS[0])
    taken.close()
    pipe.close()
    assert not taken.data
