"""The proxy's HTTP applications: the profiler's stream, and what leads to it and elsewhere."""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.server.guard import KeyGuard, LocalGuard
from engine.server.http_errors import HttpError
from engine.server.stream import Observed, Stream
from llmtop.peer import HELLO_PATH, STREAM_PATH

OWN_PATHS: Final = frozenset({STREAM_PATH, HELLO_PATH})


def create_app(forwarder: ASGIApp, own: ASGIApp, api_keys: tuple[str, ...] = ()) -> ASGIApp:
    """`own` for `OWN_PATHS`, `forwarder` for all others. With `api_keys`, all but /health is for
    those who show one of them; without, it serves only who calls it by a name of this machine."""
    app = Switch(own, forwarder)
    return KeyGuard(app, api_keys) if api_keys else LocalGuard(app)


class Switch:
    """Paths of our own go to `own`, all else to `forwarder`, without a router and its wrappers:
    they took a tenth of the proxy's time for a request."""

    def __init__(self, own: ASGIApp, forwarder: ASGIApp) -> None:
        self._own = own
        self._forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_own = scope["path"] in OWN_PATHS
        await (self._own if is_own else self._forwarder)(scope, receive, send)


def own_app(observed: Observed) -> Starlette:
    """What the proxy answers itself."""
    stream = Stream(observed)
    return Starlette(
        routes=[Route(STREAM_PATH, stream.events), Route(HELLO_PATH, stream.hello)],
        exception_handlers={HttpError: _answer_http_error, HTTPException: _answer_routing_error},
    )


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error.response()


def _answer_routing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return HttpError(error.status_code, error.detail).response()
