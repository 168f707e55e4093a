"""The process that observes what another one relays: `python -m llmtop.proxy.observing`.

State, findings, recording and the event stream hold the interpreter for milliseconds at a time,
which bytes on their way would wait for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from engine.server.stream import Observed
from llmtop import __version__
from llmtop.commands.listen import is_loopback
from llmtop.http_server import HttpServer, http_config
from llmtop.log_relay import LogRelay
from llmtop.proxy.app import own_app
from llmtop.proxy.config import ObserverConfig
from llmtop.proxy.event_pipe import events_in
from llmtop.proxy.facts import models_of, session_start
from llmtop.serving_observer import Observer
from llmtop.serving_progress import Progress, say_nothing, say_on_stderr, say_on_stdout
from profiler.events import SCHEMA_VERSION, Phase
from profiler.objectives import parse_objectives, with_objectives

ASK_AGAIN_S: Final = 5.0


class Observing:
    """Lives on the event loop, until the end of `pipe`. Says what a person may want to read on the
    way, and one line that tells where the proxy is."""

    def __init__(self, config: ObserverConfig, pipe: asyncio.StreamReader) -> None:
        self._config = config
        self._proxy = config.proxy
        self._pipe = pipe
        path = self._proxy.session_path
        self._observer = Observer(
            Progress(say_nothing if config.is_quiet else say_on_stderr).hear,
            None if path is None else Path(path),
            alert_webhook=self._proxy.alert_webhook,
            no_device=_why_no_device(self._proxy.upstream),
        )
        self._model = ""

    async def run(self) -> None:
        observer = self._observer
        relay = LogRelay(observer.publish_soon)
        logging.getLogger().addHandler(relay)
        observed = Observed(observer.metrics, observer.feed, self._hello)
        server = HttpServer(http_config(own_app(observed), log_level="critical"))
        with socket.socket(fileno=self._config.socket_fd) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            observer.start({"proxy": self._config.relay_pid, "observer": os.getpid()})
            introducing = asyncio.create_task(self._introduce())
            async for events in events_in(self._pipe):
                for event in events:
                    observer.publish(event)
            introducing.cancel()
            await observer.stop()
            server.should_exit = True
            await serving
        logging.getLogger().removeHandler(relay)

    def _hello(self) -> dict[str, object]:
        return {
            "schema": SCHEMA_VERSION,
            "version": __version__,
            "model": self._model,
            "session": self._observer.session,
        }

    async def _introduce(self) -> None:
        """Tells whose session it is: at once, and anew when the server names its model later."""
        proxy, told = self._proxy, False
        while not self._model:
            models = await models_of(proxy.upstream, proxy.api_key)
            self._model = models[0].id if models else ""
            if self._model or not told:
                start = session_start(proxy.upstream, models)
                objectives = parse_objectives(proxy.slo) if proxy.slo else ()
                self._observer.publish(with_objectives(start, objectives))
            if not told:
                self._ready()
                told = True
            if not self._model:
                await asyncio.sleep(ASK_AGAIN_S)

    def _ready(self) -> None:
        self._observer.publish(Phase(time.monotonic_ns(), "ready"))
        upstream, recording = self._proxy.upstream, self._observer.recording
        if not self._model:
            self._observer.log("warning", "server", f"{upstream} names no model yet")
        if not self._config.is_quiet:
            kept = f", session {recording}" if recording is not None else ""
            say_on_stdout(f"ready: {self._config.url} passes to {upstream}{kept}")


def _why_no_device(upstream: str) -> str:
    """Of a server elsewhere."""
    host = urlsplit(upstream).hostname or ""
    return "" if is_loopback(host) else f"the proxy does not see the devices of {host}"


async def _observe() -> int:
    pipe = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pipe), sys.stdin)
    line = await pipe.readline()
    if not line:
        return 0  # who started us has gone
    config = msgspec.json.decode(line, type=ObserverConfig)
    await Observing(config, pipe).run()
    return 0


def main() -> int:
    """The exit code."""
    # A stop is for the process that relays: it drains first, and this one goes on to the end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return asyncio.run(_observe())


if __name__ == "__main__":
    sys.exit(main())
