"""Server-sent events as bytes, and the response that carries them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Final, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
DONE: Final = b"data: [DONE]\n\n"
HEARTBEAT: Final = b": heartbeat\n\n"


def data_event(data: bytes) -> bytes:
    """An event without a name, as OpenAI's clients read it."""
    return b"data: " + data + b"\n\n"


def named_event(name: str, data: bytes, number: int | None = None) -> bytes:
    """An event with a name and, where the reader may resume after it, a number."""
    head = f"id: {number}\nevent: {name}\n" if number is not None else f"event: {name}\n"
    return head.encode() + b"data: " + data + b"\n\n"


class EventStreamResponse(Response):
    """Sends what `parts` yields, one write each, until it ends or the client goes.

    The status line is not sent before the first part is there, so `parts` may raise until then.
    When the client goes, `parts` is closed: its `finally` runs.
    """

    def __init__(self, parts: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(receive, self._send_all(send))
        finally:
            await self._parts.aclose()

    async def _send_all(self, send: Send) -> None:
        started = False
        async for part in self._parts:
            if not started:
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                started = True
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns, or None if the client went first: then `work` is cancelled."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
