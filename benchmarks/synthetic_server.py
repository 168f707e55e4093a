"""Serves the event stream of a made-up session over HTTP, as a server of ours does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from synthetic import STEP_NS, Synthetic

from engine.server.event_feed import EventFeed
from profiler.bus import Bus
from profiler.events import SCHEMA_VERSION
from profiler.state import SessionState


class SyntheticServer:
    """Steps the session in real time and lets any number of readers follow it."""

    def __init__(self, num_live: int, num_pages: int, gpu: bool) -> None:
        self._session = Synthetic(num_live, num_pages, gpu=gpu)
        self._bus = Bus()
        self._state = SessionState()
        self._feed = EventFeed(self._bus, self._keyframe)
        self._publish(*self._session.start(time.monotonic_ns(), time.time_ns()))

    def app(self) -> Starlette:
        routes = [
            Route("/v1/llmtop/hello", self._hello),
            Route("/v1/llmtop/events", self._events),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        stepping = asyncio.create_task(self._step_for_good())
        yield
        stepping.cancel()

    async def _step_for_good(self) -> None:
        while True:
            t_ns = time.monotonic_ns()
            self._publish(*self._session.step(t_ns))
            self._feed.wake()
            await asyncio.sleep(max(0.0, (t_ns + STEP_NS - time.monotonic_ns()) / 1e9))

    def _publish(self, *events) -> None:  # type: ignore[no-untyped-def]
        for event in events:
            self._state.apply(event, self._bus.publish(event))

    def _keyframe(self) -> tuple[int, bytes]:
        return self._bus.head, self._state.keyframe()

    async def _hello(self, request: Request) -> JSONResponse:
        return JSONResponse(
            {"schema": SCHEMA_VERSION, "version": "0", "model": "synthetic", "session": "synthetic"}
        )

    async def _events(self, request: Request) -> StreamingResponse:
        last = request.headers.get("last-event-id")
        return StreamingResponse(
            self._feed.read(int(last) if last else None), media_type="text/event-stream"
        )


def serve(num_live: int, num_pages: int, gpu: bool) -> None:
    """Prints the port it listens on, then serves until it is ended."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    app = SyntheticServer(num_live, num_pages, gpu).app()
    config = uvicorn.Config(app, log_level="error", access_log=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
