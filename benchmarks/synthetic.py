"""A made-up but consistent session: what an engine with 64 live requests would tell.

Pages are booked as the engine books them (allocated, shared, sealed, released, evicted), so every
screen has something true to its own rules to show. Nothing here is measured.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from profiler.events import (
    AnyEvent,
    GpuAbsent,
    GpuSample,
    Log,
    MemorySample,
    PageDelta,
    PageKeyframe,
    PageRun,
    PageSpan,
    Phase,
    ProcessSample,
    RequestFinished,
    RequestFirstToken,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)

BLOCK = 16
PREFIX_PAGES = 12
TOKEN_BUDGET = 512
STEP_NS = 33_000_000


def runs_of(op: str, pages: Iterable[int], request: int) -> list[PageRun]:
    """Neighbouring pages as one run."""
    runs: list[PageRun] = []
    for page in pages:
        if runs and runs[-1].page + runs[-1].count == page:
            runs[-1] = PageRun(op, runs[-1].page, runs[-1].count + 1, request)
        else:
            runs.append(PageRun(op, page, 1, request))
    return runs


class PageBook:
    """References and seals of a pool of pages; what it does it also writes down as runs."""

    def __init__(self, num_pages: int) -> None:
        self.refs = [0] * num_pages
        self.owner = [0] * num_pages
        self.sealed = [False] * num_pages
        self._free = deque(range(num_pages))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._runs: list[PageRun] = []

    def take(self, count: int, request: int) -> list[int]:
        """`count` pages; cached ones are evicted, oldest first, when none is free."""
        taken: list[int] = []
        evicted: list[int] = []
        for _ in range(count):
            if not self._free:
                page, _ = self._cached.popitem(last=False)
                self.sealed[page] = False
                evicted.append(page)
                self._free.append(page)
            page = self._free.popleft()
            self.refs[page], self.owner[page] = 1, request
            taken.append(page)
        self._runs += runs_of("evict", evicted, 0) + runs_of("alloc", taken, request)
        return taken

    def share(self, pages: list[int], request: int) -> None:
        for page in pages:
            self._cached.pop(page, None)
            self.refs[page] += 1
        self._runs += runs_of("share", pages, request)

    def seal(self, pages: list[int], request: int) -> None:
        for page in pages:
            self.sealed[page] = True
        self._runs += runs_of("seal", pages, request)

    def release(self, pages: list[int], request: int) -> None:
        for page in reversed(pages):
            self.refs[page] -= 1
            if not self.refs[page]:
                if self.sealed[page]:
                    self._cached[page] = None
                else:
                    self._free.append(page)
        self._runs += runs_of("release", pages, request)

    def changes(self) -> tuple[PageRun, ...]:
        runs, self._runs = tuple(self._runs), []
        return runs

    @property
    def counts(self) -> tuple[int, int, int]:
        """Used, cached, free."""
        num_cached, num_free = len(self._cached), len(self._free)
        return len(self.refs) - num_cached - num_free, num_cached, num_free

    def spans(self) -> tuple[PageSpan, ...]:
        return tuple(
            PageSpan(page, 1, self.owner[page], refs, self.sealed[page])
            for page, refs in enumerate(self.refs)
            if refs or self.sealed[page]
        )


@dataclass(slots=True)
class Life:
    """One request. `context` tokens lie in pages."""

    number: int
    num_prompt: int
    num_output: int
    prefix: int | None
    context: int = 0
    out: int = 0
    num_sealed: int = 0
    pages: list[int] = field(default_factory=list)


class Synthetic:
    """Step after step of a session in which `num_live` requests are always under way."""

    def __init__(
        self,
        num_live: int = 64,
        num_pages: int = 2048,
        seed: int = 0,
        gpu: bool = False,
        step_ns: int = STEP_NS,
    ) -> None:
        self._rng = random.Random(seed)
        self._book = PageBook(num_pages)
        self._num_live = num_live
        self._num_pages = num_pages
        self._gpu = gpu
        self._step_ns = step_ns
        self._lives: list[Life] = []
        self._waiting: deque[Life] = deque()
        self._prefixes: dict[int, tuple[int, list[int]]] = {}
        self._next = 1
        self._step = 0

    def start(self, t_ns: int, wall_ns: int) -> Iterator[AnyEvent]:
        weights = 272 << 20
        page_bytes = 368_640
        yield Phase(t_ns, "load", 272, 272, "tensors")
        yield SessionStart(
            t_ns,
            wall_ns,
            "0.0.0",
            "SmolLM2-135M-Instruct",
            "cuda:0" if self._gpu else "cpu",
            30,
            self._num_pages,
            BLOCK,
            page_bytes,
            weights,
            2048,
            self._num_live,
            TOKEN_BUDGET,
        )
        yield Phase(t_ns, "ready")
        if not self._gpu:
            yield GpuAbsent(t_ns, "the NVML library is not installed")
        yield Log(t_ns, "info", "server", "listening on http://127.0.0.1:8400")
        kv = page_bytes * self._num_pages
        device, total = ("cuda:0", 139 << 30) if self._gpu else ("cpu", 16 << 30)
        yield MemorySample(t_ns, device, weights, kv, 64 << 20, 0, total)

    def step(self, t_ns: int) -> list[AnyEvent]:
        """The events of the next engine step, which begins at `t_ns`."""
        self._step += 1
        end_ns = t_ns + self._step_ns - self._rng.randrange(self._step_ns // 8)
        before = [*self._arrivals(t_ns), *self._admissions(t_ns)]
        rows, first, finished = self._work()
        used, cached, free = self._book.counts
        runs = self._book.changes()
        step = Step(
            t_ns,
            end_ns,
            self._step,
            self._step_ns // 16,
            self._step_ns * 3 // 4,
            tuple(rows),
            len(self._waiting),
            len(self._lives),
            used,
            cached,
            free,
        )
        told: Iterable[AnyEvent] = chain(
            before,
            [PageDelta(t_ns, runs)] if runs else [],
            [step],
            (RequestFirstToken(end_ns, life.number) for life in first),
            (RequestFinished(end_ns, life.number, "length", life.out) for life in finished),
            self._samples(end_ns),
        )
        return list(told)

    def _arrivals(self, t_ns: int) -> Iterator[AnyEvent]:
        while len(self._lives) + len(self._waiting) < self._num_live:
            rng = self._rng
            prefix = rng.randrange(4) if rng.random() < 0.4 else None
            least = BLOCK * PREFIX_PAGES + 8 if prefix is not None else 16
            life = Life(self._next, rng.randint(least, 420), rng.randint(40, 300), prefix)
            self._next += 1
            self._waiting.append(life)
            name = f"chatcmpl-{life.number:06x}"
            yield RequestQueued(t_ns, life.number, name, life.num_prompt, life.num_output)

    def _admissions(self, t_ns: int) -> Iterator[AnyEvent]:
        for _ in range(min(2, len(self._waiting))):
            life = self._waiting.popleft()
            held = self._shared_pages(life.prefix)
            if held:
                self._book.share(held, life.number)
                life.pages, life.num_sealed = list(held), len(held)
                life.context = BLOCK * len(held)
            self._lives.append(life)
            yield RequestScheduled(t_ns, life.number, life.context)

    def _shared_pages(self, prefix: int | None) -> list[int]:
        """The pages that hold the prefix, none if one of them was evicted since."""
        if prefix is None or prefix not in self._prefixes:
            return []
        owner, pages = self._prefixes[prefix]
        book = self._book
        if all(book.sealed[page] and book.owner[page] == owner for page in pages):
            return pages
        del self._prefixes[prefix]
        return []

    def _work(self) -> tuple[list[StepRow], list[Life], list[Life]]:
        budget = TOKEN_BUDGET
        rows: list[StepRow] = []
        first: list[Life] = []
        finished: list[Life] = []
        for life in self._lives:
            chunk = min(budget, life.num_prompt - life.context)
            if chunk > 0:
                budget -= chunk
                life.context += chunk
            elif life.out:
                chunk = 0
                life.context += 1
            new = 1 if life.context >= life.num_prompt else 0
            life.out += new
            self._book_tokens(life)
            if chunk or new:
                rows.append(StepRow(life.number, max(0, chunk), new))
            if new and life.out == 1:
                first.append(life)
            if life.out >= life.num_output:
                finished.append(life)
        for life in finished:
            self._book.release(life.pages, life.number)
            self._lives.remove(life)
        return rows, first, finished

    def _book_tokens(self, life: Life) -> None:
        missing = -(-life.context // BLOCK) - len(life.pages)
        if missing > 0:
            life.pages += self._book.take(missing, life.number)
        full = life.context // BLOCK
        if full > life.num_sealed:
            self._book.seal(life.pages[life.num_sealed : full], life.number)
            life.num_sealed = full
            if life.prefix is not None and full >= PREFIX_PAGES:
                self._prefixes.setdefault(life.prefix, (life.number, life.pages[:PREFIX_PAGES]))

    def _samples(self, t_ns: int) -> Iterator[AnyEvent]:
        rng = self._rng
        if self._step % 30 == 0:
            for role, cpu, rss in (("core", 188, 1200), ("server", 14, 160), ("terminal", 4, 90)):
                pid = 4000 + len(role)
                yield ProcessSample(t_ns, role, pid, cpu + rng.random() * 5, rss << 20)
        if self._step % 45 == 0:
            yield Log(t_ns, "info", "http", f"POST /v1/chat/completions 200 {rng.randint(1, 9)} s")
        if self._step % 400 == 0:
            yield Log(t_ns, "warning", "core", "the queue holds more than it did a minute ago")
        if self._step % max(1, 5_000_000_000 // self._step_ns) == 0:
            yield PageKeyframe(t_ns, self._book.spans())
        if self._gpu and self._step % 8 == 0:
            yield self._gpu_sample(t_ns)

    def _gpu_sample(self, t_ns: int) -> GpuSample:
        rng = self._rng
        return GpuSample(
            t_ns,
            0,
            "NVIDIA H200",
            36 << 30,
            139 << 30,
            35 << 30,
            70 + 20 * rng.random(),
            40 + 10 * rng.random(),
            480 + 60 * rng.random(),
            700.0,
            55.0 + 4 * rng.random(),
            1980 - 15 * rng.randrange(4),
            3201,
            "",
            int(t_ns / 2e6),
            rng.randrange(1 << 28),
            rng.randrange(1 << 27),
        )
