"""Runs the load that a spec describes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from llmtop.load.client import LoadClient
from llmtop.load.connection import Connections
from llmtop.load.loop_lag import LoopLag
from llmtop.load.progress import LoadProgress
from llmtop.load.prompts import PromptWriter, Vocabulary, measure_vocabulary
from llmtop.load.report import LoadReport, RunFacts, make_report
from llmtop.load.result import RequestResult
from llmtop.load.server import Server, open_client
from llmtop.load.spec import LoadSpec

NS_PER_S: Final = 1_000_000_000

# A server that is down fails a request in a millisecond; the streams do not hammer it.
FAILURE_PAUSE_S: Final = 0.25


async def run_load(
    spec: LoadSpec,
    progress: LoadProgress | None = None,
    stop: asyncio.Event | None = None,
) -> LoadReport:
    """The report of a whole run; `progress` is kept up to date meanwhile.

    Once `stop` is set nothing more is sent and what is under way is cancelled.
    Raises: LoadError if the server cannot be reached or names no model.
    """
    async with open_client(spec) as http, Connections(spec.root_url, spec.headers) as connections:
        server = Server(http)
        model = spec.model or await server.first_model()
        vocabulary = await measure_vocabulary(lambda text: server.count_tokens(model, text))
        progress = progress or LoadProgress()
        client = LoadClient(spec, model, connections, progress)
        run = LoadRun(spec, client, PromptWriter(spec, vocabulary), progress)
        async with LoopLag() as lag:
            await run.until(stop or asyncio.Event())
        facts = RunFacts(model, _describe(vocabulary), run.num_cancelled, lag.lags_ms)
        return make_report(spec, run.results, facts)


def _describe(vocabulary: Vocabulary) -> str:
    if vocabulary.exact:
        return "tokens of the server's tokenizer"
    if vocabulary.counted:
        return "about as many tokens of the server's tokenizer"
    return "words: the server has no /tokenize"


class LoadRun:
    """One run: the warm-up, then the measured requests, in the spec's kind of arrivals."""

    def __init__(
        self,
        spec: LoadSpec,
        client: LoadClient,
        prompts: PromptWriter,
        progress: LoadProgress,
    ) -> None:
        self._spec = spec
        self._client = client
        self._prompts = prompts
        self._progress = progress
        self.results: list[RequestResult] = []
        self.num_cancelled = 0

    async def until(self, stop: asyncio.Event) -> None:
        """Runs to the end of the spec, or until `stop` is set."""
        load = asyncio.create_task(self._all())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({load, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            if not load.done():
                self.num_cancelled = self._progress.num_in_flight
                load.cancel()
            await asyncio.gather(load, stopped, return_exceptions=True)
        if not load.cancelled():
            load.result()

    async def _all(self) -> None:
        self._progress.t_start_ns = time.monotonic_ns()
        if self._spec.warmup_requests:
            self._progress.warming_up = True
            await self._send_all(iter(range(self._spec.warmup_requests)), warmup=True)
            self._progress.warming_up = False
        await self._send_all(self._numbers(), warmup=False)

    def _numbers(self) -> Iterator[int]:
        """The measured requests' numbers, until their count or their time is up."""
        spec = self._spec
        limit = spec.num_requests
        if limit is None and spec.duration_s is None:
            return itertools.count()
        numbers: Iterator[int] = itertools.count() if limit is None else iter(range(limit))
        if spec.duration_s is None:
            return numbers
        end = time.monotonic() + spec.duration_s
        return itertools.takewhile(lambda _: time.monotonic() < end, numbers)

    async def _send_all(self, numbers: Iterator[int], warmup: bool) -> None:
        if self._spec.rate_per_s is None:
            await self._closed_loop(numbers, warmup)
        else:
            await self._open_loop(numbers, self._spec.rate_per_s, warmup)

    async def _closed_loop(self, numbers: Iterator[int], warmup: bool) -> None:
        async def stream() -> None:
            for number in numbers:
                if not await self._send(number, None, warmup):
                    await asyncio.sleep(FAILURE_PAUSE_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._spec.concurrency):
                group.create_task(stream())

    async def _open_loop(self, numbers: Iterator[int], rate_per_s: float, warmup: bool) -> None:
        bound = self._spec.concurrency
        places = asyncio.Semaphore(bound) if bound else contextlib.nullcontext()

        async def one(number: int, t_arrival_ns: int) -> None:
            async with places:
                await self._send(number, t_arrival_ns, warmup)

        async with asyncio.TaskGroup() as group:
            async for number, t_arrival_ns in poisson(numbers, rate_per_s, self._spec.seed):
                group.create_task(one(number, t_arrival_ns))

    async def _send(self, number: int, t_arrival_ns: int | None, warmup: bool) -> bool:
        """Whether the request was answered."""
        prompt = self._prompts.write(number, warmup)
        arrival_ns = time.monotonic_ns() if t_arrival_ns is None else t_arrival_ns
        self._progress.num_in_flight += 1
        try:
            result = await self._client.send(number, prompt, arrival_ns, warmup)
        finally:
            self._progress.num_in_flight -= 1
        self._note(result)
        return result.ok

    def _note(self, result: RequestResult) -> None:
        self.results.append(result)
        self._progress.error = result.error or self._progress.error
        if not result.warmup:
            self._progress.num_ok += result.ok
            self._progress.num_failed += not result.ok


async def poisson(
    numbers: Iterator[int], rate_per_s: float, seed: int
) -> AsyncIterator[tuple[int, int]]:
    """Each number at its arrival, with the time it was due: a late loop delays none that follow."""
    rng = random.Random(f"{seed}:arrivals")
    due_ns = time.monotonic_ns()
    for number in numbers:
        await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / NS_PER_S)
        yield number, due_ns
        due_ns += round(rng.expovariate(rate_per_s) * NS_PER_S)
