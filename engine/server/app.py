"""The HTTP application: OpenAI's routes, the profiler's stream, and what guards them."""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.errors import EngineError
from engine.server.about import About
from engine.server.async_engine import AsyncEngine
from engine.server.controlling import NO_CONTROL, Control, Controlling
from engine.server.generating import Generating
from engine.server.guard import BodyLimit, KeyGuard, LocalGuard
from engine.server.http_errors import HttpError, from_engine
from engine.server.stream import Observed, Stream

MAX_BODY_BYTES: Final = 32 << 20


def create_app(
    engine: AsyncEngine,
    observed: Observed,
    *,
    version: str,
    api_keys: tuple[str, ...] = (),
    control: Control = NO_CONTROL,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Starlette:
    """The application. With `api_keys`, all but /health is for those who show one of them; without,
    it serves only who calls it by a name of this machine. `control` says who may give orders."""
    generating = Generating(engine)
    about = About(engine, version, observed.metrics)
    stream = Stream(observed)
    controlling = Controlling(engine, control)
    return Starlette(
        routes=[
            Route("/v1/completions", generating.completions, methods=["POST"]),
            Route("/v1/chat/completions", generating.chat, methods=["POST"]),
            Route("/v1/models", about.models),
            Route("/v1/models/{name:path}", about.model),
            Route("/v1/llmtop/events", stream.events),
            Route("/v1/llmtop/hello", stream.hello),
            Route("/v1/llmtop/capture", controlling.capture, methods=["POST"]),
            Route("/v1/llmtop/observer", controlling.measure_observer, methods=["POST"]),
            Route("/health", about.health),
            Route("/version", about.version),
            Route("/metrics", about.metrics),
            Route("/tokenize", about.tokenize, methods=["POST"]),
            Route("/detokenize", about.detokenize, methods=["POST"]),
            Route("/tokenizer_info", about.tokenizer_info),
        ],
        middleware=[
            Middleware(KeyGuard, keys=api_keys) if api_keys else Middleware(LocalGuard),
            Middleware(BodyLimit, max_bytes=max_body_bytes),
        ],
        exception_handlers={
            HttpError: _answer_http_error,
            EngineError: _answer_engine_error,
            HTTPException: _answer_routing_error,
            Exception: _answer_bug,
        },
    )


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return error.response()


def _answer_engine_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, EngineError)
    return from_engine(error).response()


def _answer_routing_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    text = {404: f"There is no {path}", 405: f"{path} does not take {request.method}"}
    message = text.get(error.status_code, error.detail)
    response = HttpError(error.status_code, message, code="not_found").response()
    response.headers.update(error.headers or {})
    return response


def _answer_bug(request: Request, error: Exception) -> Response:
    message = f"{type(error).__name__} in the server; its log has more"
    return HttpError(500, message, "internal_error").response()
