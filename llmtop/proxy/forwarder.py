"""Passes requests on and answers back, byte by byte as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

from engine.server.http_errors import HttpError
from llmtop.proxy.client_body import ClientBody, ClientGoneError
from llmtop.proxy.exchange import Exchange, exchange_of
from llmtop.proxy.headers import end_to_end
from llmtop.proxy.ledger import Ledger
from llmtop.proxy.response import Response, WireError
from llmtop.proxy.upstream import Upstream, refusal
from llmtop.proxy.wire import Wire

_BROKEN: Final = "error: the answer broke off"

Complain = Callable[[str], None]


class Forwarder:
    """An ASGI application. Either side waits for the other: a client that does not read keeps the
    server from sending, one that goes ends its request there, and an answer that breaks off does so
    for the client too.

    `complain` gets a line when the server cannot be reached, and when it can be again.
    """

    def __init__(self, upstream: Upstream, ledger: Ledger, complain: Complain) -> None:
        self._upstream = upstream
        self._ledger = ledger
        self._complain = complain
        self._complaint = ""
        self._running: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def num_running(self) -> int:
        return len(self._running)

    async def drain(self) -> None:
        """Takes nothing new. Returns when all that runs has ended."""
        self._draining = True
        await self._idle.wait()

    async def cut_short(self) -> None:
        """Ends what runs."""
        self._draining = True
        for task in self._running:
            task.cancel("shutdown")
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._draining:
            stopping = HttpError(503, "The proxy is stopping", "service_unavailable")
            await stopping.response()(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._idle.clear()
        try:
            await self._while_there(task, scope, receive, send)
        finally:
            self._running.discard(task)
            if not self._running:
                self._idle.set()

    async def _while_there(
        self, task: asyncio.Task[object], scope: Scope, receive: Receive, send: Send
    ) -> None:
        exchange = exchange_of(scope, self._ledger)
        body = ClientBody(receive, exchange)
        watching = asyncio.create_task(body.watch(task.cancel))
        try:
            await self._forward(scope, body, watching, send, exchange)
        except ClientGoneError:
            exchange.left()
        except asyncio.CancelledError:
            if body.gone:
                exchange.left()
            else:
                exchange.aborted("shutdown")
            if not body.gone and not self._draining:
                raise
            task.uncancel()
        finally:
            watching.cancel()

    async def _forward(
        self,
        scope: Scope,
        body: ClientBody,
        watching: asyncio.Task[None],
        send: Send,
        exchange: Exchange,
    ) -> None:
        try:
            wire, response = await self._upstream.send(scope, aiter(body))
        except WireError as error:
            watching.cancel()
            await self._refuse(error, scope, send, exchange)
            return
        self._reached()
        try:
            await _pass_back(wire, response, send, exchange)
        except WireError:
            exchange.aborted(_BROKEN)
            return  # without the end that was due: the client's connection breaks off as ours did
        finally:
            self._upstream.release(wire)
        watching.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        exchange.finished()

    async def _refuse(self, error: WireError, scope: Scope, send: Send, exchange: Exchange) -> None:
        told = refusal(error, self._upstream.base_url)
        exchange.aborted(f"error: {told.code}")
        if told.message != self._complaint:
            self._complaint = told.message
            self._complain(told.message)
        await told.response()(scope, _nothing_more, send)

    def _reached(self) -> None:
        if self._complaint:
            self._complaint = ""
            self._complain(f"{self._upstream.base_url} answers again")


async def _pass_back(wire: Wire, response: Response, send: Send, exchange: Exchange) -> None:
    """All but the end of the answer. Raises: WireError where it breaks off."""
    status, headers = response.status, end_to_end(response.headers)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    exchange.answered(status, headers)
    async for part in wire.parts(response):
        t_ns = wire.t_came_ns
        await send({"type": "http.response.body", "body": part, "more_body": True})
        exchange.received(part, t_ns)


async def _nothing_more() -> dict[str, object]:
    return {"type": "http.disconnect"}
