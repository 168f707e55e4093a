"""What the proxy answers itself, and does not pass."""

from __future__ import annotations

import httpx
import pytest

from engine.server.event_feed import EventFeed
from engine.server.stream import Observed
from llmtop.proxy.app import create_app, own_app
from llmtop.proxy.forwarder import Forwarder
from llmtop.proxy.ledger import Ledger
from llmtop.proxy.upstream import Upstream
from profiler.bus import Bus
from profiler.follower import Follower


async def nothing(peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


async def test_its_own_paths_never_pass(proxied) -> None:
    async with proxied(nothing) as rig:
        hello = await rig.client.get("/v1/llmtop/hello")
        wrong = await rig.client.post("/v1/llmtop/hello", json={})
        assert rig.fake.peers == []
        other = await rig.client.get("/v1/llmtop/hello/you")
    assert hello.json() == {"schema": 1}
    assert (wrong.status_code, wrong.json()["error"]["message"]) == (405, "Method Not Allowed")
    assert other.status_code == 200 and len(rig.fake.peers) == 1


@pytest.mark.parametrize("path", ["/v1/llmtop/hello", "/v1/llmtop/events", "/v1/models"])
async def test_with_a_key_every_path_asks_for_it(path: str) -> None:
    bus = Bus()
    feed = EventFeed(bus, Follower(bus).keyframe)
    forwarder = Forwarder(Upstream("http://127.0.0.1:9", 5.0), Ledger(bus.publish), print)
    app = create_app(forwarder, own_app(Observed(lambda: b"", feed, dict)), ("sesame",))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        refused = await client.get(path, headers={"authorization": "Bearer guess"})
    assert refused.status_code == 401
