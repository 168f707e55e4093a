"""Reads the metrics page of a server of another kind, once a second."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Final, Literal

from llmtop.priority import give_way
from llmtop.sanitize import clean_line
from llmtop.sources.feed import FeedOf
from llmtop.sources.kept import KeptSource
from llmtop.sources.page_client import PageClient
from llmtop.sources.probing import Target
from llmtop.sources.scraper import Scraper
from llmtop.viewmodel import Connection
from profiler.errors import StreamError
from profiler.events import AnyEvent, Log
from profiler.state import SessionState

PERIOD_S: Final = 1.0


class MetricsSource(KeptSource):
    """A thread of its own reads the page; `poll` folds what it has read, on this host's clock.

    A server that goes away is asked again each second; its counters begin anew with it. The
    feeds of `beside` are heard as long as it is watched.
    """

    def __init__(
        self, target: Target, api_key: str | None = None, beside: Iterable[FeedOf] = ()
    ) -> None:
        super().__init__()
        self._target = target
        self._scraper = Scraper(target)
        self._api_key = api_key
        self._state = SessionState()
        self._inbox: deque[AnyEvent] = deque()
        self._feeds = [make(self._inbox.append) for make in beside]
        self._connection = Connection("connecting", "")
        self._seq = 0
        self._met = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return self._target.url

    @property
    def connection(self) -> Connection:
        return self._connection

    def start(self) -> None:
        self._state.advance(time.monotonic_ns())  # the recording begins here, not at time 0
        self.ring.begin(self._state)
        engine, version = self._target.engine.name, clean_line(self._target.version)
        text = f"reading the metrics of {engine} {version}".rstrip()
        self._inbox.append(Log(time.monotonic_ns(), "info", "viewer", text))
        self._thread = threading.Thread(target=self._run, name="llmtop-metrics", daemon=True)
        self._thread.start()
        for feed in self._feeds:
            feed.start()

    def stop(self) -> None:
        self._stopping.set()
        for feed in self._feeds:
            feed.stop()
        if self._thread is not None:
            self._thread.join(timeout=0.2)  # it may wait for an answer, and owns nothing else
        self._keeper.end()

    def poll(self, now_ns: int) -> SessionState:
        for _ in range(len(self._inbox)):
            event = self._inbox.popleft()
            self._seq += 1
            self._state.apply(event, self._seq)
            self.ring.append(event, self._state)
        self._state.advance(now_ns)
        return self._state

    def _run(self) -> None:
        give_way()
        with PageClient(self._api_key) as client:
            due_s = time.monotonic()
            while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
                self._read(client)
                due_s = max(due_s + PERIOD_S, time.monotonic())

    def _read(self, client: PageClient) -> None:
        try:
            sample = self._scraper.sample(client)
        except StreamError as error:
            self._lost(error.message)
            return
        self._inbox.append(sample)
        self._connection, self._met = Connection("connected"), True

    def _lost(self, why: str) -> None:
        status: Literal["reconnecting", "connecting"] = (
            "reconnecting" if self._met else "connecting"
        )
        if self._connection.status == "connected":
            text = f"the metrics page is gone: {why}"
            self._inbox.append(Log(time.monotonic_ns(), "warning", "viewer", text))
        self._connection = Connection(status, f"{why}; trying again")
