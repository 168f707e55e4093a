"""uvicorn as the proxy runs it: each request says when it came."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmtop.http_server import HttpServer, http_config

_CAME: Final = "llmtop_came_ns"


class StampedProtocol(H11Protocol):
    """The time is that of the bytes which made the request's head whole. Until its task runs, the
    event loop parses them and may have others to serve."""

    def data_received(self, data: bytes) -> None:
        self.app_state = {_CAME: time.monotonic_ns()}
        super().data_received(data)


def came_ns(scope: Scope) -> int:
    return int(scope["state"][_CAME])


def proxy_server(app: ASGIApp) -> HttpServer:
    """The upstream's own date passes. An answer that breaks off is told of by us. Nobody asks here
    for whom another proxy before this one speaks."""
    config = http_config(
        app, StampedProtocol, date_header=False, proxy_headers=False, log_level="critical"
    )
    return HttpServer(config)
