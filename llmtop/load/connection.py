"""HTTP/1.1 exchanges over kept connections.

A generator often shares the machine with the server that it measures, so a chunk has to be cheap:
read through httpx it cost 160 us of CPU, here 45 (Xeon, 2 busy cores, 32 streams of 128 chunks).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httptools

from llmtop.trust import trusted

Sink = Callable[[int, bytes, int], None]
"""Hears the status, a part of the body, and when it came (monotonic ns)."""

CONNECT_TIMEOUT_S: Final = 5.0


class ExchangeError(Exception):
    """There is no whole response; the text says why."""


class NoResponseError(ExchangeError):
    """The server closed the connection without a byte of response, as it may with a kept one."""


class Connection(asyncio.Protocol):
    """One connection, one exchange at a time. The parser calls the methods named on_..."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._status = 0
        self._t_ns = 0
        self._begun = False
        self.reusable = True

    async def exchange(self, request: bytes, sink: Sink) -> int:
        """The status, once the body has ended. What `sink` raises ends the exchange.

        Raises: ExchangeError.
        """
        if self._transport is None or not self.reusable:
            raise NoResponseError("the server closed the connection")
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._sink, self._begun = sink, False
        self.reusable = False
        self._transport.write(request)
        await self._done
        return self._status

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._t_ns, self._begun = time.monotonic_ns(), True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._end(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._end(ExchangeError(f"this is no HTTP response: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport, self.reusable = None, False
        if not self._begun:
            self._end(NoResponseError(f"the server closed the connection {error or ''}".strip()))
        elif self._status:
            # A body without a length ends like this. Whether it is whole, its reader knows.
            self._end(None)
        else:
            self._end(ExchangeError(f"connection lost: {error or 'closed by the server'}"))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(self._status, data, self._t_ns)

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        done, self._sink = self._done, None
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            self.close()
            done.set_exception(error)


class Connections:
    """Connections to one server. An exchange takes an idle one or opens one."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._path = parts.path.rstrip("/")
        lines = [f"host: {parts.netloc}", *(f"{name}: {text}" for name, text in headers.items())]
        self._headers = "".join(f"{line}\r\n" for line in lines)
        self._idle: list[Connection] = []

    async def __aenter__(self) -> Connections:
        return self

    async def __aexit__(self, *error: object) -> None:
        for connection in self._idle:
            connection.close()

    async def post(self, path: str, body: bytes, sink: Sink) -> int:
        """The status of a request with a JSON body. Raises: ExchangeError, and what `sink` does."""
        head = (
            f"POST {self._path}{path} HTTP/1.1\r\n{self._headers}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection = self._idle.pop() if self._idle else await self._open()
        try:
            return await connection.exchange(head.encode("latin-1") + body, sink)
        finally:
            if connection.reusable:
                self._idle.append(connection)
            else:
                connection.close()

    async def _open(self) -> Connection:
        context = trusted() if self._secure else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    Connection, self._host, self._port, ssl=context
                )
        except TimeoutError:
            raise ExchangeError("no connection in time") from None
        except OSError as error:
            raise ExchangeError(f"no connection: {error.strerror or error}") from None
        return connection
