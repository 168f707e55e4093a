"""The server behind the proxy: how it is reached, and what to say when it is not."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

from starlette.types import Scope

from engine.server.http_errors import HttpError
from llmtop.proxy.headers import forwarded, is_in_chunks
from llmtop.proxy.kept_body import KeptBody
from llmtop.proxy.response import (
    Response,
    SilentError,
    UnansweredError,
    UntakenError,
    WireError,
)
from llmtop.proxy.wire import Wire
from llmtop.trust import trusted

CONNECT_S: Final = 10.0
# Servers keep an idle connection for 5 s and more; one that they close while it is used is lost.
KEEP_ALIVE_S: Final = 4.0
# llama.cpp closes within 0.3 ms of a stream's end and does not announce it: in a closed loop 15 of
# 400 requests ran into that, and with this pause none (2 cores of an EPYC).
SETTLE_S: Final = 0.01
# Source: RFC 9110, section 9.2.2.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class Upstream:
    """Takes requests as they come from a client. Nothing is added, followed or unpacked.

    The server is at `base_url`, or at the Unix socket `socket_path` under that name.
    """

    def __init__(self, base_url: str, silence_s: float, socket_path: str | None = None) -> None:
        parts = urlsplit(base_url)
        self.base_url = base_url
        self._silence_s = silence_s
        self._socket_path = socket_path
        self._tls = trusted() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._netloc = parts.netloc.encode("latin-1")
        self._prefix = parts.path.rstrip("/").encode("latin-1")
        self._idle: list[Wire] = []

    async def send(self, scope: Scope, body: AsyncIterator[bytes]) -> tuple[Wire, Response]:
        """The response with its body still to come; the caller hands the wire to `release`.

        What a kept connection ends without a byte of an answer is sent once more on a new one,
        where that changes nothing at the server: the method is idempotent, or the server closed
        before a byte of it came. Of any other a generation might run twice.

        Raises: WireError, and what `body` raises.
        """
        headers = forwarded(scope["headers"], self._netloc)
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (scope["method"].encode(), self._target(scope), lines)
        in_chunks, asked_head = is_in_chunks(scope["headers"]), scope["method"] == "HEAD"
        kept = KeptBody(body)
        wire = self._take_idle()
        if wire is not None:
            try:
                return wire, await _asked(wire, head, aiter(kept), in_chunks, asked_head)
            except UnansweredError as error:
                again = isinstance(error, UntakenError) or scope["method"] in _IDEMPOTENT
                if not (again and kept.is_whole):
                    raise
        wire = await self._connect()
        return wire, await _asked(wire, head, aiter(kept), in_chunks, asked_head)

    def release(self, wire: Wire) -> None:
        """Keep a connection whose response has ended; close any other."""
        if wire.is_reusable:
            wire.idle_since_s = time.monotonic()
            self._idle.append(wire)
        else:
            wire.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _target(self, scope: Scope) -> bytes:
        query = scope["query_string"]
        path: bytes = self._prefix + scope["raw_path"]
        return path + b"?" + query if query else path

    def _take_idle(self) -> Wire | None:
        """The connection that was used last, but for those just now; those that have waited too
        long are closed."""
        now_s = time.monotonic()
        while self._idle and self._idle[0].idle_since_s < now_s - KEEP_ALIVE_S:
            self._idle.pop(0).close()
        for wire in reversed(self._idle):
            if wire.idle_since_s > now_s - SETTLE_S:
                continue
            self._idle.remove(wire)
            if wire.is_quiet:
                return wire
            wire.close()
        return None

    async def _connect(self) -> Wire:
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._connection()
        except TimeoutError:
            raise SilentError("did not take the connection in time") from None
        except ssl.SSLCertVerificationError as error:
            raise WireError(f"shows no valid certificate: {error.verify_message}") from None
        except ssl.SSLError:
            raise WireError("does not speak TLS") from None
        except OSError:
            raise WireError("cannot be reached: no connection") from None

    async def _connection(self) -> Wire:
        loop = asyncio.get_running_loop()
        if self._socket_path is None:
            _, wire = await loop.create_connection(
                lambda: Wire(self._silence_s), self._host, self._port, ssl=self._tls
            )
        else:
            _, wire = await loop.create_unix_connection(
                lambda: Wire(self._silence_s), self._socket_path
            )
        return wire


async def _asked(
    wire: Wire, head: bytes, body: AsyncIterator[bytes], in_chunks: bool, asked_head: bool
) -> Response:
    try:
        return await wire.ask(head, body, in_chunks, asked_head)
    except BaseException:
        wire.close()
        raise


def refusal(error: WireError, base_url: str) -> HttpError:
    """What a client is told when the server gave no response."""
    text = f"{base_url} {error}"
    if isinstance(error, SilentError):
        return HttpError(504, text, "upstream_error", code="upstream_timeout")
    return HttpError(502, text, "upstream_error", code="upstream_unreachable")
