"""A server that says exactly what a test wants it to say, and a proxy in front of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from engine.server.event_feed import EventFeed
from engine.server.stream import Observed
from llmtop.commands.listen import open_socket, url_of
from llmtop.proxy.app import create_app, own_app
from llmtop.proxy.forwarder import Forwarder
from llmtop.proxy.ledger import Ledger
from llmtop.proxy.server import proxy_server
from llmtop.proxy.upstream import Upstream
from profiler.bus import Bus
from profiler.events import AnyEvent
from profiler.follower import Follower
from profiler.state import SessionState

Script = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One connection to the fake server: what came, and what to send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    body: bytes = b""

    async def read_request(self) -> None:
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        for line in self.head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                self.body = await self.reader.readexactly(int(line.partition(b":")[2]))
            if line == b"transfer-encoding: chunked":
                self.body = await self.reader.readuntil(b"0\r\n\r\n")

    async def send(self, *parts: bytes) -> None:
        """Each part in a packet of its own, as far as the loop can tell."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0.005)

    async def gone(self) -> bool:
        """Whether the other side closes within a moment."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        return True


@dataclass
class Fake:
    """A server that runs `script` for each connection and keeps what it was asked."""

    script: Script
    peers: list[Peer] = field(default_factory=list)
    outcomes: list[Any] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await peer.read_request()
            self.outcomes.append(await self.script(peer))
            self.done.set()
        finally:
            writer.close()


@dataclass
class Rig:
    """The proxy as a client sees it, and all that it told."""

    url: str
    client: httpx.AsyncClient
    events: list[AnyEvent]
    forwarder: Forwarder
    complaints: list[str]
    fake: Fake | None

    def state(self) -> SessionState:
        state = SessionState()
        for seq, event in enumerate(self.events, 1):
            state.apply(event, seq)
        return state

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def told(self, kind: type, count: int = 1) -> list[Any]:
        for _ in range(500):
            if len(self.of(kind)) >= count:
                return self.of(kind)
            await asyncio.sleep(0.01)
        raise AssertionError(f"no {kind.__name__} among {self.events}")


@contextlib.asynccontextmanager
async def rig_before(
    base_url: str, fake: Fake | None = None, silence_s: float = 5.0
) -> AsyncIterator[Rig]:
    bus, events, complaints = Bus(), [], []
    follower = Follower(bus)

    def publish(event: AnyEvent) -> None:
        events.append(event)
        bus.publish(event)

    upstream = Upstream(base_url, silence_s)
    forwarder = Forwarder(upstream, Ledger(publish), complaints.append)
    feed = EventFeed(bus, follower.keyframe)
    own = own_app(Observed(lambda: b"", feed, lambda: {"schema": 1}))
    app = create_app(forwarder, own)
    with open_socket("127.0.0.1", 0) as listener:
        server = proxy_server(app)
        serving = asyncio.create_task(server.serve([listener]))
        url = url_of(listener)
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            yield Rig(url, client, events, forwarder, complaints, fake)
        feed.close()
        server.should_exit = True
        await serving
        upstream.close()


@pytest.fixture
def proxied() -> Callable[..., Any]:
    """A context with a proxy before a server that follows the given script."""

    @contextlib.asynccontextmanager
    async def start(script: Script, silence_s: float = 5.0) -> AsyncIterator[Rig]:
        fake = Fake(script)
        server = await asyncio.start_server(fake.handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with rig_before(f"http://127.0.0.1:{port}", fake, silence_s) as rig:
                yield rig
        finally:
            server.close()

    return start


@pytest.fixture
def proxied_to() -> Callable[..., Any]:
    """A context with a proxy before any address."""
    return rig_before
