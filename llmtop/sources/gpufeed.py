"""Reads a DCGM exporter's page once a second: the devices beside an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from llmtop.priority import give_way
from llmtop.sources.asker import FORGETFUL, Asker
from llmtop.sources.page_client import PageClient
from llmtop.sources.probing import FORGETS
from profiler.errors import StreamError
from profiler.events import AnyEvent, GpuAbsent, Log
from profiler.foreign.dcgm import devices_of

PERIOD_S: Final = 1.0


class GpuFeed:
    """The server's key does not go there: it was given for the server."""

    def __init__(self, url: str, emit: Callable[[AnyEvent], None]) -> None:
        self.url = url if urlsplit(url).path else f"{url}/metrics"
        self._emit = emit
        self._why: str | None = ""
        self._is_known = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmtop-dcgm", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=0.2)  # it may wait for an answer, and owns nothing else

    def _run(self) -> None:
        give_way()
        with PageClient() as client:
            due_s = time.monotonic()
            while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
                self.read(client)
                due_s = max(due_s + PERIOD_S, time.monotonic())

    def read(self, client: PageClient) -> None:
        try:
            self._meet(client)
            page = client.get(self.url)
            if page.status != 200:
                raise StreamError(f"the exporter answered with status {page.status}")
            for sample in devices_of(page.text, time.monotonic_ns()):
                self._emit(sample)
            self._why, self._is_known = None, True
        except StreamError as error:
            self._lost(error.message)

    def _meet(self, client: PageClient) -> None:
        """Raises: StreamError where an engine is that reading would take something from."""
        if self._is_known:
            return
        if Asker(client, self.url.removesuffix(FORGETFUL)).forgets:
            raise StreamError(f"TensorRT-LLM is there, and {FORGETS}")

    def _lost(self, why: str) -> None:
        """Told once for each reason, not once a second."""
        self._is_known = False
        if why != self._why:
            now = time.monotonic_ns()
            self._emit(GpuAbsent(now, why))
            self._emit(Log(now, "warning", "viewer", f"GPU metrics of {self.url}: {why}"))
        self._why = why
