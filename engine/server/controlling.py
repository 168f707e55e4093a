"""Orders to the engine that are not requests, for servers that were started to take them."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.server.answer import json_bytes
from engine.server.async_engine import AsyncEngine
from engine.server.http_errors import HttpError
from engine.server.schema import parse_body
from profiler.events import MAX_CAPTURED_STEPS

DEFAULT_STEPS: Final = 16


class CaptureBody(msgspec.Struct):
    steps: int = DEFAULT_STEPS


class Controlling:
    def __init__(self, engine: AsyncEngine, is_allowed: bool) -> None:
        self._engine = engine
        self._is_allowed = is_allowed

    async def capture(self, request: Request) -> Response:
        """202: the kernels of the next steps will come with the event stream."""
        if not self._is_allowed:
            raise HttpError(403, "This server takes no orders; start it with --control")
        data = await request.body()
        body = parse_body(data, CaptureBody) if data else CaptureBody()
        if not 1 <= body.steps <= MAX_CAPTURED_STEPS:
            raise HttpError(400, f"steps must be from 1 to {MAX_CAPTURED_STEPS}", param="steps")
        self._engine.capture(body.steps)
        content = json_bytes({"steps": body.steps})
        return Response(content, status_code=202, media_type="application/json")
