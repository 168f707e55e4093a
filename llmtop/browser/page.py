"""The terminal in a browser of this machine: textual-serve runs one `llmtop attach` a tab."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import textual_serve.server
from aiohttp import web
from aiohttp.web_runner import GracefulExit
from textual_serve.app_service import AppService
from textual_serve.server import Server

from llmtop.commands.listen import url_of
from llmtop.errors import LlmtopError
from llmtop.sources.base import Source

INTERRUPTED: Final = 130
_FOLDER: Final = Path(__file__).resolve().parent
_ROOT: Final = _FOLDER.parents[1]
_POLL_S: Final = 0.5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run_in_browser(
    words: Sequence[str], listener: socket.socket, source: Source | None = None
) -> int:
    """The exit code, once a signal has ended it, or `source`, a server of ours, has ended.

    A tab runs `llmtop attach` with `words`, in this environment. `listener` is bound to a loopback
    address. Raises: LlmtopError when the server failed.
    """
    page = BrowserPage(attach_command(words), listener, source)
    click.echo(f"open {page.url}", err=True)
    web.run_app(page.app(), sock=listener, handle_signals=False, print=None, access_log=None)
    if source is not None and source.connection.status == "failed":
        raise LlmtopError(source.connection.detail, source.connection.hint)
    return page.code


def attach_command(words: Sequence[str]) -> str:
    """For the shell that textual-serve starts; our packages stand first on the path."""
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    command = (sys.executable, "-P", "-m", "llmtop", "attach", *words)
    return f"PYTHONPATH={shlex.quote(paths)} exec {shlex.join(command)}"


class _Reaped(AppService):  # type: ignore[misc]
    """A dashboard whose process is waited for: textual-serve leaves it when its output has ended,
    and a loop that closes before the process has complains on standard error."""

    async def run(self) -> None:
        await super().run()
        if self._process is not None:
            await self._process.wait()


textual_serve.server.AppService = _Reaped


class BrowserPage:
    """Only who knows the token may open it: not other people of this machine, who have no key to
    the server, and not other sites, whose scripts reach every port of it."""

    def __init__(self, command: str, listener: socket.socket, source: Source | None) -> None:
        self._base = url_of(listener)
        self._token = secrets.token_urlsafe(24)
        # Cookies do not tell ports apart.
        self._cookie = f"llmtop-{listener.getsockname()[1]}"
        self._source = source
        self._watching: asyncio.Task[None] | None = None
        self.code = 0
        self._server: Any = Server(
            command, title="llmtop", public_url=self._base, templates_path=_FOLDER
        )

    @property
    def url(self) -> str:
        return f"{self._base}/?token={self._token}"

    async def app(self) -> web.Application:
        """textual-serve's application with a guard before it, and without its banner."""
        app: web.Application = await self._server._make_app()
        app.middlewares.append(self._middleware())
        app.on_startup.clear()
        app.on_startup.append(self._begin)
        app.on_cleanup.append(self._finish)
        return app

    def _middleware(self) -> Any:
        """The guard as a function, since aiohttp marks it and a method cannot be marked."""

        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        return web.middleware(guard)

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.query.get("token")
        token = asked or request.cookies.get(self._cookie, "")
        if not hmac.compare_digest(token.encode(), self._token.encode()) or self._foreign(request):
            return web.Response(status=403, text="open the address that llmtop has printed\n")
        response = await handler(request)
        if asked is not None and not response.prepared:
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict")
        return response

    def _foreign(self, request: web.Request) -> bool:
        """Whether a script of another site asks, or a name that only leads here by DNS."""
        here = urlsplit(self._base).netloc
        origin = str(request.headers.get("Origin", self._base))
        return str(request.host) != here or origin != self._base

    async def _begin(self, app: web.Application) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._leave, INTERRUPTED)
        loop.add_signal_handler(signal.SIGTERM, self._leave, 0)
        if self._source is not None:
            self._watching = asyncio.create_task(self._watch(self._source))

    async def _finish(self, app: web.Application) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self, source: Source) -> None:
        while source.connection.status not in ("failed", "ended"):
            source.poll(time.monotonic_ns())
            await asyncio.sleep(_POLL_S)
        asyncio.get_running_loop().call_soon(self._leave, 0)

    def _leave(self, code: int) -> None:
        self.code = code
        raise GracefulExit
