"""What every request passes first: the key, or where it comes from, and its body's bound."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.server.http_errors import HttpError

OPEN_PATHS: Final = frozenset({"/health"})


class KeyGuard:
    """Lets in who shows one of `keys` as a bearer token.

    Every path is guarded, those of the metrics and the event stream too, except `/health`.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"] not in OPEN_PATHS
        if not guarded or self._knows(_bearer(scope)):
            await self._app(scope, receive, send)
            return
        refusal = HttpError(
            401, "Missing or wrong API key: send it as a bearer token", code="invalid_api_key"
        )
        await refusal.response()(scope, receive, send)

    def _knows(self, token: bytes) -> bool:
        """Compares with every key, each in a time that does not depend on where they differ."""
        return sum(hmac.compare_digest(token, key) for key in self._keys) > 0


def _bearer(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = bytes(value).partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else b""
    return b""


class LocalGuard:
    """Keeps web pages from elsewhere away from a server that asks for no key.

    A browser on this machine reaches loopback for any page it shows, under that page's name (DNS
    rebinding) or with its origin. So both must be names of this machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or all(_is_local(name) for name in _named_hosts(scope)):
            await self._app(scope, receive, send)
            return
        refusal = HttpError(
            403, "Without an API key only this machine is served, by its own name", code="not_local"
        )
        await refusal.response()(scope, receive, send)


def _named_hosts(scope: Scope) -> Iterator[str]:
    """What a request calls this server, and the page that sent it, if one did."""
    for name, value in scope["headers"]:
        if name == b"host":
            yield "//" + value.decode("latin-1")
        elif name == b"origin":
            yield value.decode("latin-1")


def _is_local(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


class BodyLimit:
    """Answers 413 to a body of more than `max_bytes`, by its stated length or as it comes."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _stated_length(scope) > self._max_bytes:
            await self._too_large().response()(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> HttpError:
        return HttpError(413, f"The body is larger than {self._max_bytes} bytes")


def _stated_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and bytes(value).isdigit():
            return int(value)
    return 0
