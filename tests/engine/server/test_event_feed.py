from __future__ import annotations

import base64

import pytest

from engine.server import event_feed
from engine.server.event_feed import EventFeed
from llmtop.sources.sse import Frame, FrameReader
from profiler.bus import Bus
from profiler.events import Phase, decode_event


class Reader:
    """Reads a feed frame by frame, as a client does."""

    def __init__(self, feed: EventFeed, last_seen: int | None = None) -> None:
        self._parts = feed.read(last_seen)
        self._frames = FrameReader()

    async def next(self) -> list[Frame]:
        return self._frames.feed(await anext(self._parts))

    async def ends(self) -> bool:
        return await anext(self._parts, None) is None

    async def close(self) -> None:
        await self._parts.aclose()


@pytest.fixture
def bus() -> Bus:
    return Bus(capacity=8)


@pytest.fixture
def feed(bus: Bus) -> EventFeed:
    return EventFeed(bus, lambda: (bus.head, b"state %d" % bus.head))


def publish(bus: Bus, count: int) -> None:
    for _ in range(count):
        bus.publish(Phase(bus.head + 1, "load"))


async def test_a_new_reader_starts_from_a_keyframe(bus, feed):
    publish(bus, 3)
    reader = Reader(feed)
    (frame,) = await reader.next()
    assert (frame.id, frame.event) == ("3", "keyframe")
    assert base64.b64decode(frame.data) == b"state 3"
    publish(bus, 2)
    frames = await reader.next()
    assert [(frame.id, frame.event) for frame in frames] == [("4", "phase"), ("5", "phase")]
    assert [decode_event(frame.data).t_ns for frame in frames] == [4, 5]
    await reader.close()


async def test_a_reader_goes_on_after_what_it_has_seen(bus, feed):
    publish(bus, 5)
    reader = Reader(feed, last_seen=3)
    assert await reader.next() == []  # a comment, so that the answer begins at once
    assert [frame.id for frame in await reader.next()] == ["4", "5"]
    await reader.close()


async def test_who_resumes_too_late_is_told_and_gets_a_keyframe(bus, feed):
    publish(bus, 20)
    reader = Reader(feed, last_seen=3)
    lag, keyframe = await reader.next()
    assert (lag.event, lag.data) == ("lag", b'{"lost":9}')
    assert (keyframe.id, keyframe.event) == ("20", "keyframe")
    await reader.close()


async def test_who_reads_too_slowly_is_told_and_gets_a_keyframe(bus, feed):
    reader = Reader(feed)
    await reader.next()
    publish(bus, 20)
    lag, keyframe = await reader.next()
    assert (lag.event, lag.data) == ("lag", b'{"lost":12}')
    assert keyframe.id == "20"
    publish(bus, 1)
    assert [frame.id for frame in await reader.next()] == ["21"]
    await reader.close()


async def test_a_number_of_another_session_starts_anew(bus, feed):
    publish(bus, 2)
    reader = Reader(feed, last_seen=1000)
    assert [frame.event for frame in await reader.next()] == ["lag", "keyframe"]
    await reader.close()


async def test_silence_is_filled_with_comments(bus, feed, monkeypatch):
    monkeypatch.setattr(event_feed, "HEARTBEAT_S", 0.001)
    parts = feed.read(None)
    await anext(parts)
    assert await anext(parts) == b": heartbeat\n\n"
    await parts.aclose()


async def test_a_closed_feed_gives_what_is_left_and_ends(bus, feed):
    reader, other = Reader(feed), Reader(feed)
    await reader.next()
    await other.next()
    assert feed.num_readers == 2
    publish(bus, 1)
    feed.close()
    assert [frame.id for frame in await reader.next()] == ["1"]
    assert await reader.ends()
    await other.close()
    assert feed.num_readers == 0
