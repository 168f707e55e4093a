"""A seeded session that never happened: the events a busy engine emits, in its order.

Requests arrive, wait, are prefilled in chunks, share a prefix, decode, are preempted when pages run
out, finish or are aborted; pages follow the engine's rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pytest

from profiler.events import (
    AnyEvent,
    GpuSample,
    KvPacking,
    Log,
    MemorySample,
    ModelShape,
    PageDelta,
    PageForm,
    PageKeyframe,
    PageRun,
    PageSpan,
    Phase,
    ProcessSample,
    RequestAborted,
    RequestFinished,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestRejected,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)

GIB = 1 << 30
SHAPE = ModelShape(7_615_616_512, 6_525_288_448, 216_530_944, 544_997_376, 3584, 401_408)
NS_PER_S = 1_000_000_000


@dataclass(slots=True)
class _Request:
    number: int
    num_prompt_tokens: int
    max_tokens: int
    computed: int = 0
    output: int = 0
    pages: list[int] = field(default_factory=list)
    first_t_ns: int = 0
    resumed: bool = False


@dataclass(slots=True)
class Workload:
    """`concurrency` requests are kept alive; one in four begins with a prefix of `shared_pages`."""

    seed: int = 0
    concurrency: int = 32
    step_ns: int = 10_000_000
    num_pages: int = 16_384
    block_size: int = 16
    prompt_tokens: tuple[int, int] = (64, 1024)
    output_tokens: tuple[int, int] = (32, 512)
    chunk: int = 512
    shared_pages: int = 8
    odd_share: float = 0.01
    packing: KvPacking | None = None
    t_ns: int = 1_000 * NS_PER_S

    _random: Random = field(init=False)
    _live: dict[int, _Request] = field(init=False, default_factory=dict)
    _waiting: list[_Request] = field(init=False, default_factory=list)
    _free: list[int] = field(init=False)
    _refs: dict[int, int] = field(init=False, default_factory=dict)
    _owner: dict[int, int] = field(init=False, default_factory=dict)
    _sealed: dict[int, None] = field(init=False, default_factory=dict)
    _prefix: list[int] = field(init=False, default_factory=list)
    _runs: list[PageRun] = field(init=False, default_factory=list)
    _count: int = field(init=False, default=0)
    _forms: dict[int, str] = field(init=False, default_factory=dict)
    _packed: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._free = list(range(self.num_pages))

    def events(self, num_steps: int) -> Iterator[AnyEvent]:
        """A session of `num_steps` steps; call once."""
        yield from self._start()
        next_s, next_gpu, next_keyframe = self.t_ns, self.t_ns, self.t_ns
        for step in range(1, num_steps + 1):
            yield from self._step(step)
            if self.t_ns >= next_gpu:
                next_gpu = self.t_ns + NS_PER_S // 5
                yield self._gpu_sample()
            if self.t_ns >= next_s:
                next_s = self.t_ns + NS_PER_S
                yield from self._once_a_second()
            if self.t_ns >= next_keyframe:
                next_keyframe = self.t_ns + 5 * NS_PER_S
                yield from self._page_events(self.t_ns)
                forms = tuple(PageForm(p, 1, form) for p, form in sorted(self._forms.items()))
                yield PageKeyframe(self.t_ns, tuple(self._spans()), forms)

    def _start(self) -> Iterator[AnyEvent]:
        yield Phase(self.t_ns, "load", 1, 30, "tensors")
        self.t_ns += NS_PER_S
        yield SessionStart(
            self.t_ns, 1_760_000_000 * NS_PER_S, "0.1.0", "synthetic", "cuda:0", 28, self.num_pages,
            self.block_size, 917_504, 15 * GIB, 8192, 256, 2048, {"dtype": "bfloat16", "seed": 0},
            4.6e12, 8e14, SHAPE, packing=self.packing,
        )  # fmt: skip
        yield Phase(self.t_ns, "ready")

    def _step(self, step: int) -> Iterator[AnyEvent]:
        yield from self._arrivals()
        self._packed = 0
        t_ns, end_ns = self.t_ns, self.t_ns + int(self.step_ns * self._random.uniform(0.8, 1.2))
        yield from self._admit()
        rows: list[StepRow] = []
        budget = self.chunk
        for request in list(self._live.values()):
            if request.number not in self._live:
                continue
            tokens = min(budget, request.num_prompt_tokens + request.output - request.computed)
            if tokens <= 0:
                continue
            yield from self._make_room(request, tokens)
            if request.number not in self._live:
                continue
            budget -= 0 if request.output else tokens
            rows.append(self._advance(request, tokens))
        yield from self._page_events(t_ns)
        if rows:
            yield self._step_event(step, end_ns, rows)
            yield from self._outcomes(end_ns, rows)
        self.t_ns = end_ns + 50_000

    def _step_event(self, step: int, end_ns: int, rows: list[StepRow]) -> Step:
        cached = sum(self._refs.get(page, 0) == 0 for page in self._sealed)
        used = self.num_pages - len(self._free) - cached
        return Step(
            self.t_ns, end_ns, step, 900_000, end_ns - self.t_ns - 900_000, tuple(rows),
            len(self._waiting), len(self._live), used, cached, len(self._free),
            "miss" if any(row.prefill_tokens for row in rows) else "hit",
            computed_tokens=sum(row.prefill_tokens or 1 for row in rows),
            sampled_rows=sum(row.new_tokens for row in rows),
            context_tokens=300 * len(rows), attended_pairs=400 * len(rows),
            pages_wide=sum(form != "packed" for form in self._forms.values()),
            packed_pages=self._packed,
        )  # fmt: skip

    def _arrivals(self) -> Iterator[AnyEvent]:
        random = self._random
        while len(self._live) + len(self._waiting) < self.concurrency:
            self._count += 1
            request = _Request(
                self._count,
                random.randint(*self.prompt_tokens),
                random.randint(*self.output_tokens),
            )
            yield RequestQueued(
                self.t_ns, request.number, f"cmpl-{request.number:06x}",
                request.num_prompt_tokens, request.max_tokens, 0, "t=0.7 top_p=0.9",
            )  # fmt: skip
            self._waiting.append(request)
            if random.random() < self.odd_share:
                yield RequestRejected(self.t_ns, "queue_full", 100)

    def _admit(self) -> Iterator[AnyEvent]:
        started = 0
        while self._waiting and started < 2:
            request = self._waiting.pop(0)
            shares = self._random.random() < 0.25 and request.num_prompt_tokens > 16 * len(
                self._prefix
            )
            for page in self._prefix if shares and not request.resumed else ():
                self._refs[page] = self._refs.get(page, 0) + 1
                request.pages.append(page)
                self._runs.append(PageRun("share", page, 1, request.number))
            request.computed = len(request.pages) * self.block_size
            self._live[request.number] = request
            started += 1
            yield RequestScheduled(self.t_ns, request.number, request.computed, request.resumed)
            request.resumed = True

    def _make_room(self, request: _Request, tokens: int) -> Iterator[AnyEvent]:
        need = -(-(request.computed + tokens) // self.block_size) - len(request.pages)
        while need > len(self._free):
            cached = next((p for p in self._sealed if self._refs.get(p, 0) == 0), None)
            if cached is not None:
                del self._sealed[cached]
                self._forms.pop(cached, None)
                self._free.append(cached)
                self._prefix = [p for p in self._prefix if p != cached]
                self._runs.append(PageRun("evict", cached, 1, 0))
                continue
            victim = next(reversed(self._live.values()))
            lost = victim.computed
            yield RequestPreempted(self.t_ns, victim.number, "no free pages", lost)
            self._release(victim)
            victim.computed = 0
            del self._live[victim.number]
            self._waiting.insert(0, victim)
            if victim is request:
                return
        for _ in range(max(0, need)):
            self._allocate(request)

    def _allocate(self, request: _Request) -> None:
        page = self._free.pop(0)
        self._refs[page] = 1
        self._owner[page] = request.number
        request.pages.append(page)
        last = self._runs[-1] if self._runs else None
        if last and last.op == "alloc" and last.request == request.number:
            if page == last.page + last.count:
                self._runs[-1] = PageRun("alloc", last.page, last.count + 1, request.number)
                return
        self._runs.append(PageRun("alloc", page, 1, request.number))

    def _turn(self, page: int, form: str, op: str, request: _Request) -> None:
        if self.packing is not None and self._forms.get(page) != form:
            self._forms[page] = form
            self._packed += form == "packed"
            self._runs.append(PageRun(op, page, 1, request.number))

    def _advance(self, request: _Request, tokens: int) -> StepRow:
        before = request.computed // self.block_size
        request.computed += tokens
        for index, page in enumerate(request.pages[before:], before):
            if index * self.block_size < request.computed and page not in self._sealed:
                self._turn(page, *(("hot", "widen") if index else ("sink", "keep")), request)
            if index and (index + 1) * self.block_size <= request.computed:
                self._turn(page, "packed", "pack", request)
        for page in request.pages[before : request.computed // self.block_size]:
            if page not in self._sealed:
                self._sealed[page] = None
                self._runs.append(PageRun("seal", page, 1, request.number))
        whole = request.num_prompt_tokens + request.output
        done = request.computed >= whole
        prefill = tokens if request.output == 0 or tokens > 1 or not done else 0
        request.output += done
        if not self._prefix and request.computed >= self.shared_pages * self.block_size:
            self._prefix = request.pages[: self.shared_pages]
        return StepRow(request.number, prefill, int(done))

    def _outcomes(self, end_ns: int, rows: list[StepRow]) -> Iterator[AnyEvent]:
        for row in rows:
            request = self._live[row.request]
            if row.new_tokens and not request.first_t_ns:
                request.first_t_ns = end_ns
                yield RequestFirstToken(end_ns, request.number)
            if request.output >= request.max_tokens:
                reason = "length" if request.number % 3 else "stop"
                yield RequestFinished(end_ns, request.number, reason, request.output)
                self._leave(request)
            elif self._random.random() < self.odd_share / 100:
                yield RequestAborted(end_ns, request.number, "disconnect", request.output)
                self._leave(request)

    def _leave(self, request: _Request) -> None:
        self._release(request)
        del self._live[request.number]

    def _release(self, request: _Request) -> None:
        for page in request.pages:
            self._refs[page] -= 1
            if self._refs[page] == 0 and page not in self._sealed:
                self._free.append(page)
                self._forms.pop(page, None)
            self._runs.append(PageRun("release", page, 1, request.number))
        request.pages.clear()

    def _page_events(self, t_ns: int) -> Iterator[AnyEvent]:
        if self._runs:
            yield PageDelta(t_ns, tuple(self._runs))
            self._runs.clear()

    def _spans(self) -> Iterator[PageSpan]:
        held = sorted({p for p, n in self._refs.items() if n > 0} | set(self._sealed))
        for page in held:
            refs, sealed = self._refs.get(page, 0), page in self._sealed
            yield PageSpan(page, 1, self._owner[page], refs, sealed)

    def _gpu_sample(self) -> GpuSample:
        watts = self._random.uniform(300, 650)
        return GpuSample(
            self.t_ns, 0, "NVIDIA H200", 40 * GIB, 140 * GIB, 39 * GIB, 97.0, 60.0, watts, 700.0,
            61.0, 1980, 2600, "", self.t_ns // 1_000_000 // 2, 10_000, 20_000,
        )  # fmt: skip

    def _once_a_second(self) -> Iterator[AnyEvent]:
        for role, pid in (("server", 100), ("core", 101)):
            yield ProcessSample(self.t_ns, role, pid, self._random.uniform(5, 90), GIB)
        yield MemorySample(self.t_ns, "cuda:0", 15 * GIB, 20 * GIB, GIB, GIB // 2, 140 * GIB)
        if self._random.random() < self.odd_share:
            yield Log(self.t_ns, "warning", "scheduler", "pages run out")


@pytest.fixture(scope="session")
def workload() -> type[Workload]:
    """The class: tests make their own."""
    return Workload
