"""The profiler's stream over HTTP, and what a reader is told before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.server.event_feed import EventFeed
from engine.server.http_errors import HttpError
from engine.server.sse import EventStreamResponse


@dataclass(frozen=True, slots=True)
class Observed:
    """What the profiler's side shows over HTTP: a Prometheus page, the event stream, and the
    facts by which a reader knows which session it is of."""

    metrics: Callable[[], bytes]
    feed: EventFeed
    hello: Callable[[], dict[str, object]]


class Stream:
    """The profiler's stream."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    async def events(self, request: Request) -> Response:
        last = request.headers.get("last-event-id")
        if last is not None and not (last.isascii() and last.isdigit() and len(last) < 19):
            raise HttpError(400, "Last-Event-ID is not a sequence number", param="Last-Event-ID")
        return EventStreamResponse(self._observed.feed.read(int(last) if last else None))

    async def hello(self, request: Request) -> Response:
        return Response(msgspec.json.encode(self._observed.hello()), media_type="application/json")
