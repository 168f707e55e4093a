"""HTTP/1.1 to the server behind the proxy: what comes is handed on as it comes.

Through httpx a streamed request of four pieces took three times the CPU of this.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import sys
import termios
from collections.abc import AsyncIterator
from typing import Final

import httptools

from llmtop.proxy.headers import Headers

READ_BYTES: Final = 64 * 1024
_NO_BODY: Final = (204, 304)


class WireError(Exception):
    """The server gave no whole response; the text says why, as a predicate of its address."""


class SilentError(WireError):
    """Nothing came in time."""


class UnansweredError(WireError):
    """The connection ended before a byte of the response. The server may have begun to answer."""


class UntakenError(UnansweredError):
    """It ended before the server's system took a byte of the request: nobody there can have read
    it, as the connection was closed when it came."""


class Response:
    """One response, by the parser's callbacks; `parts` of the body are taken out as they come."""

    def __init__(self, asked_head: bool) -> None:
        self.status = 0
        self.headers: Headers = []
        self.begun = self.complete = self.keeps_alive = self.heard = False
        self._asked_head = asked_head
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Raises: WireError."""
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise WireError("does not speak HTTP/1.1") from None

    def end_of_data(self) -> None:
        """The connection is closed. Raises: WireError where that cuts the response short."""
        if not self.heard:
            raise UnansweredError("ended the connection without an answer")
        names = {name.lower() for name, _ in self.headers}
        if not self.begun or names & {b"content-length", b"transfer-encoding"}:
            raise WireError("ended the connection without a whole answer")
        self.complete = True

    def take(self) -> bytes:
        """What came of the body since the last time."""
        part = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim response: the real one follows
            self.headers = []
            return
        self.begun = True
        self.keeps_alive = self._parser.should_keep_alive()
        self.complete = self._asked_head or self.status in _NO_BODY

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.complete or self.begun


class Wire:
    """One connection, one exchange at a time. Nothing is read that nobody takes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._silence_s = silence_s
        self._response: Response | None = None
        self._num_written = 0
        self._untaken = False
        self.idle_since_s = 0.0

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof() and not self._writer.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing came on it unasked: its end, say, which the event loop
        may not have looked at yet."""
        if not self.is_open:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    @property
    def _descriptor(self) -> int:
        return int(self._writer.get_extra_info("socket").fileno())

    @property
    def is_reusable(self) -> bool:
        response = self._response
        return self.is_open and response is not None and response.complete and response.keeps_alive

    def close(self) -> None:
        self._writer.transport.abort()

    async def ask(
        self, head: bytes, body: AsyncIterator[bytes], in_chunks: bool, asked_head: bool
    ) -> Response:
        """The response, once its headers are there. Raises: WireError, and what `body` does."""
        self._response = response = Response(asked_head)
        self._num_written, self._untaken = 0, False
        await self._write(head, body, in_chunks)
        while not response.begun:
            await self._read(response)
        return response

    async def parts(self, response: Response) -> AsyncIterator[bytes]:
        """The body, each part as soon as it is there. Raises: WireError where it breaks off."""
        while True:
            part = response.take()
            if part:
                yield part
            elif response.complete:
                return
            else:
                await self._read(response)

    async def _write(self, head: bytes, body: AsyncIterator[bytes], in_chunks: bool) -> None:
        """A server that closes early may have answered before: its answer is read then."""
        waiting = head
        async for part in body:
            framed = b"%x\r\n%s\r\n" % (len(part), part) if in_chunks else part
            self._send(waiting + framed)
            waiting = b""
            if not await self._drained():
                return
        waiting += b"0\r\n\r\n" if in_chunks else b""
        if waiting:
            self._send(waiting)

    def _send(self, data: bytes) -> None:
        self._writer.write(data)
        if self._writer.is_closing():
            # Refused at once; the socket, which knows, is gone at the event loop's next turn.
            self._untaken = self._is_untaken()
        else:
            self._num_written += len(data)

    async def _drained(self) -> bool:
        try:
            async with asyncio.timeout(self._silence_s):
                await self._writer.drain()
        except TimeoutError:
            raise SilentError("does not take the request") from None
        except OSError:
            return False
        return True

    async def _read(self, response: Response) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            raise SilentError("did not answer in time") from None
        except OSError:
            data = b""
        if data:
            response.feed(data)
            return
        if not response.heard and (self._untaken or self._is_untaken()):
            raise UntakenError("ended the connection without an answer")
        response.end_of_data()

    def _is_untaken(self) -> bool:
        """Whether no byte of the request was acknowledged. One that comes after the server closed
        is not; one that came before is, and the end of the connection acknowledges it too."""
        try:
            told = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return False  # closed here already: nobody can tell
        waiting = int.from_bytes(told, sys.byteorder)
        return waiting + self._writer.transport.get_write_buffer_size() >= self._num_written
