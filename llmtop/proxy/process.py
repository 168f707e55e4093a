"""The life of a proxy process: start, pass on, drain, stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

from llmtop.commands.listen import url_of
from llmtop.http_server import HttpServer
from llmtop.lifeline import Stopping
from llmtop.log_relay import LogRelay, log_line
from llmtop.proxy.app import create_app
from llmtop.proxy.config import ProxyConfig
from llmtop.proxy.forwarder import Forwarder
from llmtop.proxy.ledger import Ledger
from llmtop.proxy.observer_launch import ObserverLaunch
from llmtop.proxy.server import proxy_server
from llmtop.proxy.upstream import Upstream
from profiler.events import Phase

# The stream's last readers, the last rows, and the file's log folded into it.
LAST_WRITES_S: Final = 30.0


class ProxyProcess:
    """Lives on the event loop. All that it does with what passes is to stamp, count and tell it:
    another process observes. `say` gets what a person has to read. With `lifeline`, the end of
    standard input asks for a stop, and nobody reads what is said on the way."""

    def __init__(
        self,
        config: ProxyConfig,
        listener: socket.socket,
        observer: ObserverLaunch,
        say: Callable[[str], None],
        lifeline: bool,
    ) -> None:
        self._config = config
        self._listener = listener
        self._observer = observer
        self._say = say
        self._pipe = observer.pipe
        self._ledger = Ledger(self._pipe.tell)
        self._upstream = Upstream(config.upstream, config.silence_s)
        self._forwarder = Forwarder(self._upstream, self._ledger, self._complain)
        self._own_upstream = Upstream("http://observer", config.silence_s, observer.socket_path)
        self._own = Forwarder(self._own_upstream, self._ledger, self._complain)
        self._stopping = Stopping(lifeline)

    @classmethod
    async def start(
        cls,
        config: ProxyConfig,
        listener: socket.socket,
        say: Callable[[str], None],
        lifeline: bool,
    ) -> ProxyProcess:
        """With its observer."""
        observer = await ObserverLaunch.start(config, url_of(listener), lifeline)
        return cls(config, listener, observer, say, lifeline)

    async def run(self) -> int:
        """The exit code."""
        self._stopping.listen()
        relay = LogRelay(self._pipe.tell_soon)
        logging.getLogger().addHandler(relay)
        server = self._http_server()
        serving = asyncio.create_task(server.serve([self._listener]))
        watching = asyncio.create_task(self._watch())
        # What is here now stays: the collector need not look at it again while bytes wait.
        gc.collect()
        gc.freeze()
        try:
            await self._stopping.asked.wait()
            await self._drain()
            watching.cancel()
            self._ledger.flush()
            self._pipe.tell(Phase(time.monotonic_ns(), "stopped"))
            logging.getLogger().removeHandler(relay)
            if not await self._observer.end(LAST_WRITES_S):
                self._say("error: the recording did not come to its end")
        finally:
            server.should_exit = True
            await serving
            self._upstream.close()
            self._own_upstream.close()
        return self._stopping.exit_code

    def _http_server(self) -> HttpServer:
        keys = (self._config.api_key,) if self._config.api_key else ()
        return proxy_server(create_app(self._forwarder, self._own, keys))

    def _complain(self, text: str) -> None:
        self._pipe.tell(log_line("warning", "server", text))

    async def _watch(self) -> None:
        """What passes is others' work: it goes on without its observer."""
        status = await self._observer.ended()
        self._say(f"error: the observer ended with status {status}: nothing is measured any more")

    async def _drain(self) -> None:
        self._pipe.tell(Phase(time.monotonic_ns(), "drain"))
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
