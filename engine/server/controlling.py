"""Orders to the engine that are not requests, for servers that were started to take them."""

from __future__ import annotations

from secrets import compare_digest
from typing import Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.server.answer import json_bytes
from engine.server.async_engine import AsyncEngine
from engine.server.http_errors import HttpError
from engine.server.schema import parse_body
from profiler.events import MAX_CAPTURED_STEPS

DEFAULT_STEPS: Final = 16
OWNER_HEADER: Final = "x-llmtop-owner"
_NO_ORDERS: Final = "This server takes no orders; start it with --control"


class CaptureBody(msgspec.Struct):
    steps: int = DEFAULT_STEPS


class Control(NamedTuple):
    """Who may give orders: with `everyone` each client, else who shows `owner_key`, and may not
    have kernels captured. Without `observe` nobody hears of what the engine does."""

    everyone: bool = False
    owner_key: str = ""
    observe: bool = True


NO_CONTROL: Final = Control()


class Controlling:
    def __init__(self, engine: AsyncEngine, control: Control) -> None:
        self._engine = engine
        self._control = control

    async def capture(self, request: Request) -> Response:
        """202: the kernels of the next steps will come with the event stream."""
        if not self._control.everyone:
            raise HttpError(403, _NO_ORDERS)
        data = await request.body()
        body = parse_body(data, CaptureBody) if data else CaptureBody()
        if not 1 <= body.steps <= MAX_CAPTURED_STEPS:
            raise HttpError(400, f"steps must be from 1 to {MAX_CAPTURED_STEPS}", param="steps")
        self._engine.capture(body.steps)
        content = json_bytes({"steps": body.steps})
        return Response(content, status_code=202, media_type="application/json")

    async def measure_observer(self, request: Request) -> Response:
        """202: what being observed costs will come with the event stream."""
        if not self._control.everyone and not self._is_owner(request):
            raise HttpError(403, _NO_ORDERS)
        if not self._control.observe:
            raise HttpError(409, "This server is not observed: it was started with --no-observe")
        self._engine.measure_observer()
        return Response(json_bytes({}), status_code=202, media_type="application/json")

    def _is_owner(self, request: Request) -> bool:
        shown, owner_key = request.headers.get(OWNER_HEADER, ""), self._control.owner_key
        return bool(owner_key) and compare_digest(shown.encode(), owner_key.encode())
