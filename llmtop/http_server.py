"""uvicorn as our servers run it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

LAST_RESPONSES_S: Final = 3
# Longer than the usual client keeps an idle connection, so that it is not the server who closes
# one that a request is just being sent on.
KEEP_ALIVE_S: Final = 75


class HttpServer(uvicorn.Server):
    """Leaves signals to us: a stop drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def http_config(
    app: ASGIApp, protocol: type[H11Protocol] = H11Protocol, **options: Any
) -> uvicorn.Config:
    """The settings that all servers of ours share, and `options` of one of them."""
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        # h11 bounds the head of a request (64 KiB); uvicorn's other parser has no bound.
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LAST_RESPONSES_S,
        **options,
    )
