"""When things came is when their bytes did, whatever else the event loop has to do."""

from __future__ import annotations

import asyncio
import socket
import time
from urllib.parse import urlsplit

from llmtop.proxy.wire import Wire
from profiler.events import RequestQueued

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 2\r\n\r\n"


async def nobody():
    return
    yield b""


async def turns() -> None:
    """Lets the event loop read what is there."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_each_lot_of_an_answer_has_its_own_time_however_late_it_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: Wire(5.0), *listener.getsockname())
        server, _ = listener.accept()
        bounds = [time.monotonic_ns()]
        for lot in (ANSWER, b"a", b"b"):
            server.sendall(lot)
            await turns()
            bounds.append(time.monotonic_ns())
        response = await wire.ask(b"GET / HTTP/1.1\r\n\r\n", nobody(), False, False)
        came = [wire.t_came_ns]
        came += [wire.t_came_ns async for _ in wire.parts(response)]
        wire.close()
        server.close()
    assert len(came) == 3 and all(
        before <= t_ns <= after
        for before, t_ns, after in zip(bounds, came, bounds[1:], strict=False)
    )


async def test_a_request_is_there_when_its_head_is_whole(proxied) -> None:
    async def answer(peer) -> None:
        await peer.send(ANSWER + b"ok")

    async with proxied(answer) as rig:
        parts = urlsplit(rig.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n")
        await turns()
        before_ns = time.monotonic_ns()
        writer.write(b"content-length: 2\r\n\r\n")
        await turns()
        after_ns = time.monotonic_ns()
        writer.write(b"{}")
        (queued,) = await rig.told(RequestQueued)
        await reader.readline()
        writer.close()
    assert before_ns <= queued.t_ns <= after_ns
