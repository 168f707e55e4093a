"""Errors as OpenAI's clients expect them: one JSON object under "error"."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.responses import Response

from engine.errors import EngineError, InvalidRequestError, QueueFullError

RETRY_AFTER_S: Final = 1


class NotServingError(EngineError):
    """The engine takes no orders now: it is starting, draining or dead."""


class HttpError(Exception):
    """A refusal with its status; `param` names the field of the request that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    def body(self) -> bytes:
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return msgspec.json.encode({"error": error})

    def response(self) -> Response:
        headers = {"retry-after": str(RETRY_AFTER_S)} if self.status == 503 else None
        return Response(self.body(), self.status, headers, media_type="application/json")


def from_engine(error: EngineError) -> HttpError:
    """The HTTP refusal that says what an engine error says."""
    if isinstance(error, QueueFullError):
        return HttpError(503, error.message, "service_unavailable", code="queue_full")
    if isinstance(error, NotServingError):
        return HttpError(503, error.message, "service_unavailable", code="not_serving")
    if isinstance(error, InvalidRequestError):
        return HttpError(400, error.message, param=error.param)
    text = f"{error.message}. {error.hint}" if error.hint else error.message
    return HttpError(500, text, "internal_error", code="engine_error")
