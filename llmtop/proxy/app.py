"""The proxy's HTTP application: the profiler's stream, and all else passed on."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from engine.server.guard import KeyGuard, LocalGuard
from engine.server.http_errors import HttpError
from engine.server.stream import Observed, Stream
from llmtop.proxy.forwarder import Forwarder


def create_app(
    forwarder: Forwarder, observed: Observed, api_keys: tuple[str, ...] = ()
) -> Starlette:
    """The application. With `api_keys`, all but /health is for those who show one of them; without,
    it serves only who calls it by a name of this machine."""
    stream = Stream(observed)
    return Starlette(
        routes=[
            Route("/v1/llmtop/events", stream.events),
            Route("/v1/llmtop/hello", stream.hello),
            Mount("/", forwarder),
        ],
        middleware=[Middleware(KeyGuard, keys=api_keys) if api_keys else Middleware(LocalGuard)],
        exception_handlers={HttpError: _answer_http_error, HTTPException: _answer_routing_error},
    )


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error.response()


def _answer_routing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return HttpError(error.status_code, error.detail).response()
