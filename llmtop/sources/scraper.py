"""Reads one server's metrics page again and again."""

from __future__ import annotations

import time

import msgspec

from llmtop.sanitize import clean_line
from llmtop.sources.asker import FORGETFUL, Asker
from llmtop.sources.page_client import PageClient
from llmtop.sources.probing import FORGETS, Target
from profiler.errors import StreamError
from profiler.events import MetricsSample
from profiler.foreign.names import TRTLLM_JSON
from profiler.foreign.reading import Reader, is_of


class TurnedError(StreamError):
    """The page is another server's than it was."""


class Scraper:
    """What answers there after it was lost may be another server: one that forgets what was read is
    not read."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reader = Reader(target.engine)
        self._is_lost = False

    def sample(self, client: PageClient) -> MetricsSample:
        """What the page says now. Raises: StreamError with why there is none."""
        if self._is_lost and self._forgets(client):
            raise TurnedError(f"TensorRT-LLM is there now, and {FORGETS}")
        self._is_lost = True
        sample = self._read(client)
        self._is_lost = False
        return sample

    def _forgets(self, client: PageClient) -> bool:
        """Whether reading takes from others what nobody said may be taken."""
        target = self._target
        if target.path != FORGETFUL or target.engine is TRTLLM_JSON:
            return False
        return Asker(client, target.root).forgets

    def _read(self, client: PageClient) -> MetricsSample:
        page = client.get(self._target.url)
        if page.status != 200:
            raise StreamError(f"the server answered with status {page.status}")
        engine = self._target.engine
        if not is_of(page.text, engine):
            raise TurnedError(f"this is no metrics page of {engine.name} any more")
        sample = self._reader.read(page.text, time.monotonic_ns())
        model = clean_line(sample.model or self._target.model)
        return msgspec.structs.replace(sample, model=model, wall_ns=time.time_ns())
