"""The life of a server process: start, serve, drain, stop, or die with a clear word."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from engine.errors import EngineError
from engine.models.tokenizer import Tokenizer
from engine.request import TokenOutput
from engine.server.app import create_app
from engine.server.async_engine import AsyncEngine, ServedModel
from engine.server.client import CoreClient
from engine.server.controlling import Control
from engine.server.launch import CoreLaunch
from engine.server.pulse import BEAT_S, Watchdog
from engine.server.stream import Observed
from engine.server.wire import Ready, Refused
from llmtop import __version__
from llmtop.commands.listen import url_of
from llmtop.http_server import HttpServer, http_config
from llmtop.lifeline import Stopping
from llmtop.log_relay import LogRelay
from llmtop.serving_config import ServeConfig
from llmtop.serving_observer import Observer, recording_path
from llmtop.serving_progress import Progress
from profiler.events import SCHEMA_VERSION, AnyEvent, Phase
from profiler.objectives import parse_objectives, with_objectives

CORE_STOP_S: Final = 5.0


class ServerProcess:
    """Hears the core, feeds the engine and the observer. Lives on the event loop.

    `say` gets what a person may want to read on the way, `announce` the one line that says where
    the server is, once it is ready. With `lifeline`, the end of standard input asks for a stop.
    """

    def __init__(
        self,
        config: ServeConfig,
        launch: CoreLaunch,
        listener: socket.socket,
        say: Callable[[str], None],
        announce: Callable[[str], None],
        lifeline: bool,
    ) -> None:
        self._config = config
        self._listener = listener
        self._announce = announce
        self._engine = AsyncEngine()
        self._observer = Observer(
            Progress(say).hear,
            recording_path(config),
            behind=self._engine.outbox.behind,
            observe=config.observe,
            alert_webhook=config.alert_webhook,
        )
        self._client = CoreClient(launch, self, Watchdog(config.core_silent_s))
        self._complaint = ""
        self._tokenizer: Tokenizer | None = None
        self._ready: Ready | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = Stopping(lifeline)
        self._failure: EngineError | None = None

    async def run(self) -> int:
        """The exit code. Raises: EngineError if the core failed."""
        self._stopping.listen()
        relay = LogRelay(self._observer.publish_soon)
        logging.getLogger().addHandler(relay)
        server = self._http_server()
        serving = asyncio.create_task(server.serve([self._listener]))
        self._observer.start({"server": os.getpid(), "core": self._client.pid})
        try:
            await self._stopping.asked.wait()
            await self._wind_up()
        finally:
            server.should_exit = True
            await serving
            logging.getLogger().removeHandler(relay)
        if self._failure is not None:
            raise self._failure
        return self._stopping.exit_code

    def _http_server(self) -> HttpServer:
        config = self._config
        observed = Observed(self._observer.metrics, self._observer.feed, self._hello)
        app = create_app(
            self._engine,
            observed,
            version=__version__,
            api_keys=(config.api_key,) if config.api_key else (),
            control=Control(config.control, config.owner_key, config.observe),
        )
        return HttpServer(http_config(app))

    def _hello(self) -> dict[str, object]:
        return {
            "schema": SCHEMA_VERSION,
            "version": __version__,
            "model": self._names()[0],
            "session": self._observer.session,
        }

    def _names(self) -> tuple[str, ...]:
        """What clients may call the model: as the server was told to, or its own name and the one
        that the person typed."""
        if self._config.served_model_name:
            return (self._config.served_model_name,)
        typed = self._config.engine.model
        own = self._ready.session.model if self._ready is not None else typed
        return tuple(dict.fromkeys((own, typed)))

    # What the core reports.

    def on_located(self, path: str, name: str) -> None:
        self._begin(self._load_tokenizer(Path(path)))

    def on_ready(self, ready: Ready) -> None:
        self._ready = ready
        objectives = parse_objectives(self._config.slo) if self._config.slo else ()
        self._observer.publish(with_objectives(ready.session, objectives))
        self._serve_if_ready()

    def on_outputs(self, outputs: list[TokenOutput]) -> None:
        self._engine.take(outputs)

    def on_events(self, events: list[AnyEvent]) -> None:
        self._observer.hear_core(events)

    def on_refused(self, refused: Refused) -> None:
        self._engine.refuse(refused)

    def on_output_line(self, line: str) -> None:
        self._observer.log("info", "core", line)

    def on_failed(self, error: EngineError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        self._observer.wait_no_longer()
        self._observer.log("error", "core", error.message)
        self._engine.fail(error)
        self._stopping.asked.set()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch_core(self) -> None:
        """Only from "ready" on: loading may keep the core from beating."""
        while self._client.alive:
            await asyncio.sleep(BEAT_S)
            complaint = self._client.watchdog.tick(self._engine.num_unfinished > 0)
            if bool(complaint) != bool(self._complaint):
                self._on_silence(complaint)

    def _on_silence(self, complaint: str) -> None:
        """The core has gone silent, or, without a complaint, is back."""
        self._complaint = complaint
        self._observer.wait_no_longer()
        self._engine.hush(bool(complaint))
        if not self._stopping.asked.is_set():
            self._observer.publish(Phase(time.monotonic_ns(), "silent" if complaint else "ready"))
        elif complaint:
            self._stopping.hurry.set()
        if complaint:  # last, so that a small screen shows it
            self._observer.log("error", "server", f"{complaint}; requests are refused meanwhile")
        else:
            self._observer.log("info", "server", "the engine core answers again")

    async def _load_tokenizer(self, path: Path) -> None:
        try:
            self._tokenizer = await asyncio.to_thread(Tokenizer.load, path)
        except EngineError as error:
            self.on_failed(error)
        except Exception as error:
            self.on_failed(EngineError(f"the tokenizer: {type(error).__name__}: {error}"))
        self._serve_if_ready()

    def _serve_if_ready(self) -> None:
        if self._ready is None or self._tokenizer is None or self._stopping.asked.is_set():
            return
        session = self._ready.session
        self._engine.serve(self._client, ServedModel(self._names(), self._tokenizer, session))
        # What is here now stays: the collector need not look at it again while tokens wait.
        gc.collect()
        gc.freeze()
        self._observer.publish(Phase(time.monotonic_ns(), "ready"))
        self._begin(self._watch_core())
        recording = self._observer.recording
        kept = f", session {recording}" if recording is not None else ""
        self._announce(f"ready: {url_of(self._listener)}, model {self._names()[0]}{kept}")

    async def _wind_up(self) -> None:
        """Ends the requests, then the core, then the stream and the recording."""
        if self._complaint:
            self._stopping.hurry.set()
        if self._failure is None:
            self._observer.publish(Phase(time.monotonic_ns(), "drain"))
            await self._drain()
        # A core that still loads, or is silent, hears nothing and has nothing to lose.
        hears = self._ready is not None and not self._complaint
        await self._client.stop(CORE_STOP_S if hears else 0.0)
        self._observer.publish(Phase(time.monotonic_ns(), "stopped"))
        await self._observer.stop()

    async def _drain(self) -> None:
        draining = asyncio.create_task(self._engine.drain(self._config.drain_timeout_s))
        hurrying = asyncio.create_task(self._stopping.hurry.wait())
        await asyncio.wait({draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        draining.cancel()
        num_dropped = self._engine.num_unfinished
        self._engine.drop_all("shutdown")
        if num_dropped:
            self._observer.log("warning", "server", f"{num_dropped} requests were cut short")
