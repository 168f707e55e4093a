"""The server behind the proxy: how it is reached, and what to say when it is not."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import httpx
from starlette.types import Scope

from engine.server.http_errors import HttpError
from llmtop.proxy.headers import forwarded

CONNECT_S: Final = 10.0
# Servers keep an idle connection for 5 s and more; one that they close while it is used is lost.
KEEP_ALIVE_S: Final = 4.0
MAX_IDLE: Final = 256


class Upstream:
    """Takes requests as they come from a client. Nothing is added, followed or unpacked."""

    def __init__(self, base_url: str, silence_s: float) -> None:
        parts = urlsplit(base_url)
        self.base_url = base_url
        self._url = httpx.URL(base_url)
        self._host = parts.netloc.encode("latin-1")
        self._prefix = parts.path.rstrip("/").encode("latin-1")
        timeout = httpx.Timeout(silence_s, connect=CONNECT_S, pool=None)
        self._timeout = timeout.as_dict()
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=KEEP_ALIVE_S
        )
        self._transport = httpx.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def send(self, scope: Scope, body: httpx.AsyncByteStream) -> httpx.Response:
        """The response with its body still to come, as it is on the wire; the caller closes it.

        Raises: httpx.TransportError, and what `body` raises.
        """
        query = scope["query_string"]
        target = self._prefix + scope["raw_path"] + (b"?" + query if query else b"")
        request = httpx.Request(
            scope["method"],
            self._url,
            headers=forwarded(scope["headers"], self._host),
            stream=body,
            extensions={"timeout": self._timeout, "target": target},
        )
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        await self._transport.aclose()


def refusal(error: httpx.TransportError, base_url: str) -> HttpError:
    """What a client is told when the server gave no response."""
    if isinstance(error, httpx.TimeoutException):
        return HttpError(504, f"{base_url} did not answer in time", _KIND, code="upstream_timeout")
    return HttpError(502, f"{base_url} {_why(error)}", _KIND, code="upstream_unreachable")


_KIND: Final = "upstream_error"


def _why(error: httpx.TransportError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"shows no valid certificate: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "does not speak TLS"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "cannot be reached: no connection"
    return "ended the connection without an answer"
