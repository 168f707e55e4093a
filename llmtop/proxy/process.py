"""The life of a proxy process: start, pass on, drain, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from engine.server.stream import Observed
from llmtop import __version__
from llmtop.commands.listen import is_loopback, url_of
from llmtop.http_server import HttpServer
from llmtop.lifeline import Stopping
from llmtop.proxy.app import create_app
from llmtop.proxy.config import ProxyConfig
from llmtop.proxy.facts import models_of, session_start
from llmtop.proxy.forwarder import Forwarder
from llmtop.proxy.ledger import Ledger
from llmtop.proxy.server import proxy_server
from llmtop.proxy.upstream import Upstream
from llmtop.serving_observer import LogRelay, Observer
from llmtop.serving_progress import Progress
from profiler.events import SCHEMA_VERSION, Phase
from profiler.objectives import parse_objectives, with_objectives

ASK_AGAIN_S: Final = 5.0
# So the recorder finds little to fold, which every first byte would wait for. Every 10 ms would be
# no quicker: a tenth of lone requests lost 0.2 ms of their time to the first token by it.
FOLD_S: Final = 0.05


class ProxyProcess:
    """Lives on the event loop. `say` gets what a person may want to read on the way, `announce` the
    one line that says where the proxy is. With `lifeline`, the end of standard input asks for a
    stop."""

    def __init__(
        self,
        config: ProxyConfig,
        listener: socket.socket,
        say: Callable[[str], None],
        announce: Callable[[str], None],
        lifeline: bool,
    ) -> None:
        self._config = config
        self._listener = listener
        self._announce = announce
        self._observer = Observer(
            Progress(say).hear,
            None if config.session_path is None else Path(config.session_path),
            alert_webhook=config.alert_webhook,
            no_device=_why_no_device(config.upstream),
            fold_s=FOLD_S,
        )
        self._upstream = Upstream(config.upstream, config.silence_s)
        self._ledger = Ledger(self._observer.publish)
        self._forwarder = Forwarder(self._upstream, self._ledger, self._complain)
        self._model = ""
        self._stopping = Stopping(lifeline)

    async def run(self) -> int:
        """The exit code."""
        self._stopping.listen()
        relay = LogRelay(self._observer)
        logging.getLogger().addHandler(relay)
        server = self._http_server()
        serving = asyncio.create_task(server.serve([self._listener]))
        self._observer.start({"proxy": os.getpid()})
        asking = asyncio.create_task(self._introduce())
        try:
            await self._stopping.asked.wait()
            asking.cancel()
            await self._wind_up()
        finally:
            server.should_exit = True
            await serving
            self._upstream.close()
            logging.getLogger().removeHandler(relay)
        return self._stopping.exit_code

    def _http_server(self) -> HttpServer:
        observed = Observed(self._observer.metrics, self._observer.feed, self._hello)
        keys = (self._config.api_key,) if self._config.api_key else ()
        app = create_app(self._forwarder, observed, keys)
        return proxy_server(app)

    def _hello(self) -> dict[str, object]:
        return {
            "schema": SCHEMA_VERSION,
            "version": __version__,
            "model": self._model,
            "session": self._observer.session,
        }

    def _complain(self, text: str) -> None:
        self._observer.log("warning", "server", text)

    async def _introduce(self) -> None:
        """Tells whose session it is: at once, and anew when the server names its model later."""
        config, told = self._config, False
        while not self._model:
            models = await models_of(config.upstream, config.api_key)
            self._model = models[0].id if models else ""
            if self._model or not told:
                start = session_start(config.upstream, models)
                objectives = parse_objectives(config.slo) if config.slo else ()
                self._observer.publish(with_objectives(start, objectives))
            if not told:
                self._ready()
                told = True
            if not self._model:
                await asyncio.sleep(ASK_AGAIN_S)

    def _ready(self) -> None:
        # What is here now stays: the collector need not look at it again while bytes wait.
        gc.collect()
        gc.freeze()
        self._observer.publish(Phase(time.monotonic_ns(), "ready"))
        if not self._model:
            self._complain(f"{self._config.upstream} names no model yet")
        recording = self._observer.recording
        kept = f", session {recording}" if recording is not None else ""
        self._announce(f"ready: {url_of(self._listener)} passes to {self._config.upstream}{kept}")

    async def _wind_up(self) -> None:
        """Ends the requests, then the stream and the recording."""
        self._observer.publish(Phase(time.monotonic_ns(), "drain"))
        await self._drain()
        self._ledger.flush()
        self._observer.publish(Phase(time.monotonic_ns(), "stopped"))
        await self._observer.stop()

    async def _drain(self) -> None:
        draining = asyncio.create_task(self._forwarder.drain())
        hurrying = asyncio.create_task(self._stopping.hurry.wait())
        await asyncio.wait(
            {draining, hurrying},
            timeout=self._config.drain_timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        draining.cancel()
        hurrying.cancel()
        num_left = self._forwarder.num_running
        if num_left:
            await self._forwarder.cut_short()
            self._complain(f"{num_left} requests were cut short")


def _why_no_device(upstream: str) -> str:
    """Of a server elsewhere."""
    host = urlsplit(upstream).hostname or ""
    return "" if is_loopback(host) else f"the proxy does not see the devices of {host}"
