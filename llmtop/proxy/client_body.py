"""The client's side of an exchange: its body as it comes, and its going."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive

from llmtop.proxy.exchange import Exchange


class ClientGoneError(Exception):
    """The client went away before its request was whole."""


class ClientBody:
    """Reads from the client only as fast as it is read from."""

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        self._receive = receive
        self._exchange = exchange
        self._whole = asyncio.Event()
        self.gone = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGoneError
            part, more = message.get("body", b""), message.get("more_body", False)
            self._exchange.asked(part)
            if part:
                yield part
        self._exchange.sent()
        self._whole.set()

    async def watch(self, on_gone: Callable[[], object]) -> None:
        """Calls `on_gone` when the client goes after its request."""
        await self._whole.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        on_gone()
