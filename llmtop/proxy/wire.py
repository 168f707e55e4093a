"""HTTP/1.1 to the server behind the proxy: what comes is handed on as it comes.

Through httpx a streamed request of four pieces took three times the CPU of this.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import sys
import termios
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from llmtop.proxy.response import Response, SilentError, UntakenError

MAX_AHEAD_BYTES: Final = 64 * 1024


class Wire(asyncio.Protocol):
    """One connection, one exchange at a time. Beyond 64 KiB nothing is read that nobody takes.

    `t_came_ns` is when the newest bytes of those that were taken came: each lot has its own time,
    however late it is taken.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._came: deque[tuple[int, bytes]] = deque()
        self._num_ahead = self._num_written = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_full = self._is_paused = self._has_ended = self._is_untaken = False
        self.t_came_ns = 0
        self.idle_since_s = 0.0

    @property
    def is_open(self) -> bool:
        return not self._has_ended and not self._there.is_closing()

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing came on it unasked: its end, say, which the event loop
        may not have looked at yet."""
        if not self.is_open or self._came:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    @property
    def is_reusable(self) -> bool:
        response = self._response
        return self.is_open and response is not None and response.complete and response.keeps_alive

    def close(self) -> None:
        self._there.abort()

    async def ask(
        self, head: bytes, body: AsyncIterator[bytes], in_chunks: bool, asked_head: bool
    ) -> Response:
        """The response, once its headers are there. Raises: WireError, and what `body` does."""
        self._response = response = Response(asked_head)
        self._num_written, self._is_untaken = 0, False
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
            while self._is_full and self.is_open:
                await self._wait("does not take the request")
            if not self.is_open:
                return
        waiting += b"0\r\n\r\n" if in_chunks else b""
        if waiting:
            self._send(waiting)

    def _send(self, data: bytes) -> None:
        self._there.write(data)
        if self._there.is_closing():
            # Refused at once; the socket, which knows, is gone at the event loop's next turn.
            self._is_untaken = self._took_nothing()
        else:
            self._num_written += len(data)

    async def _read(self, response: Response) -> None:
        """Raises: WireError."""
        while not self._came and not self._has_ended:
            await self._wait("did not answer in time")
        if self._came:
            self.t_came_ns, data = self._came.popleft()
            self._num_ahead -= len(data)
            if self._is_paused and self._num_ahead <= MAX_AHEAD_BYTES:
                self._is_paused = False
                self._there.resume_reading()
            response.feed(data)
            return
        if not response.heard and (self._is_untaken or self._took_nothing()):
            raise UntakenError("ended the connection without an answer")
        response.end_of_data()

    def _took_nothing(self) -> bool:
        """Whether no byte of the request was acknowledged. One that comes after the server closed
        is not; one that came before is, and the end of the connection acknowledges it too."""
        try:
            told = fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return False  # closed here already: nobody can tell
        waiting = int.from_bytes(told, sys.byteorder)
        return waiting + self._there.get_write_buffer_size() >= self._num_written

    @property
    def _there(self) -> asyncio.Transport:
        assert self._transport is not None, "asyncio connects it before anybody has it"
        return self._transport

    @property
    def _descriptor(self) -> int:
        return int(self._there.get_extra_info("socket").fileno())

    async def _wait(self, silent: str) -> None:
        """Until something happens. Raises: SilentError, saying `silent`."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(self._silence_s, _give_up, waiter, silent)
        try:
            await waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came.append((time.monotonic_ns(), data))
        self._num_ahead += len(data)
        if self._num_ahead > MAX_AHEAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._there.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Whether the socket stays, to be asked what the server took; TLS has none to stay."""
        self._has_ended = True
        self._wake()
        return self._there.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        self._has_ended = True
        self._wake()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()


def _give_up(waiter: asyncio.Future[None], silent: str) -> None:
    if not waiter.done():
        waiter.set_exception(SilentError(silent))
