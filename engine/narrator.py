"""Tells the event stream what the core does."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import msgspec

from engine.attended import StepWork, WideReads, WorkCounter
from engine.config import EngineConfig, SamplingParams
from engine.kv.cache import PagedKVCache
from engine.kv.packing_facts import packing_facts
from engine.loading import Loaded
from engine.models.work import model_shape
from engine.plan import Outcome, Plan, PlanRow, StepTimes
from engine.request import EngineRequest
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.telling import Telling
from profiler.events import (
    Log,
    MemorySample,
    PageDelta,
    PageKeyframe,
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

KEYFRAME_NS: Final = 5_000_000_000
MEMORY_NS: Final = 1_000_000_000
_NO_WORK: Final = StepWork(0, 0, 0, 0, 0)


class Narrator:
    """Turns what happened into events, in the stream's order. Knows nothing the core does not.

    Page changes are stamped with the beginning of the step that made them: a step's events then
    never go back in time.
    """

    def __init__(
        self,
        config: EngineConfig,
        loaded: Loaded,
        kv: PagedKVCache,
        tell: Telling,
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._folder, self._runner, self._ceilings = loaded
        self._work = WorkCounter(
            self._folder.config, WideReads.of(self._runner.packed, config.page_tokens)
        )
        self._kv = kv
        self._pool = kv.pool
        self._tell = tell
        self._clock = clock
        self._step = 0
        self._pages_changed = False
        self._next_keyframe_ns = clock() + KEYFRAME_NS
        self._next_memory_ns = 0

    def session_start(self) -> SessionStart:
        config, runner, memory = self._config, self._runner, self._runner.memory()
        ceilings = self._ceilings
        return SessionStart(
            t_ns=self._clock(),
            wall_ns=time.time_ns(),
            tool_version=_tool_version(),
            model=self._folder.name,
            device=memory.device,
            num_layers=self._folder.config.num_layers,
            num_pages=runner.num_pages,
            block_size=config.page_tokens,
            page_bytes=runner.page_bytes,
            weights_bytes=memory.weights_bytes,
            max_model_len=runner.max_model_len,
            max_num_seqs=min(config.scheduler.max_num_seqs, self._kv.max_running),
            max_num_batched_tokens=config.scheduler.max_num_batched_tokens,
            config=_flat(config),
            read_bytes_per_s=None if ceilings is None else ceilings.read_bytes_per_s,
            matmul_flops_per_s=None if ceilings is None else ceilings.matmul_flops_per_s,
            shape=model_shape(self._folder.config),
            packing=None
            if runner.packed is None
            else packing_facts(runner.packed, runner.num_wide_pages, runner.dtype),
        )

    def queued(self, sequence: Sequence) -> None:
        request = sequence.request
        self._tell(
            RequestQueued(
                request.t_arrival_ns or self._clock(),
                request.request,
                request.name,
                sequence.num_prompt,
                sequence.max_tokens,
                request.priority,
                describe_sampling(request.params),
            )
        )

    def rejected(self, request: EngineRequest) -> None:
        num_prompt = len(request.prompt_token_ids)
        self._tell(RequestRejected(self._clock(), "queue_full", num_prompt))

    def aborted(self, sequence: Sequence, reason: str) -> None:
        t_ns = self._clock()
        self._tell_pages(t_ns)
        self._tell(RequestAborted(t_ns, sequence.number, reason, sequence.num_output))

    def finished_by_text(self, sequence: Sequence, reason: str) -> None:
        t_ns = self._clock()
        self._tell_pages(t_ns)
        end_ns = sequence.t_last_ns or t_ns
        self._tell(RequestFinished(end_ns, sequence.number, reason, sequence.num_output))

    def planned(self, plan: Plan, t_ns: int) -> None:
        for admission in plan.admitted:
            number = admission.sequence.number
            self._tell(RequestScheduled(t_ns, number, admission.cached_tokens, admission.resumed))
        for victim, lost_tokens in plan.preempted:
            self._tell(RequestPreempted(t_ns, victim.number, "pages", lost_tokens))
        self._tell_pages(t_ns)

    def stepped(
        self, scheduler: Scheduler, plan: Plan, outcome: Outcome, times: StepTimes, graph: str
    ) -> None:
        shares = partial(self._shares, plan.rows, outcome.rows)
        self._tell_step(scheduler, plan, shares, times, graph)
        self._tell_pages(times.end_ns)
        for sequence in outcome.firsts:
            self._tell(RequestFirstToken(times.end_ns, sequence.number))
        for sequence, reason in outcome.finished:
            number, num_output = sequence.number, sequence.num_output
            self._tell(RequestFinished(times.end_ns, number, reason, num_output))
        self._tell_periodic(times.end_ns)

    def failed(
        self,
        scheduler: Scheduler,
        plan: Plan,
        sequences: list[Sequence],
        reason: str,
        times: StepTimes,
    ) -> None:
        """Tells of a step that ended the requests of `sequences` and computed nothing."""
        rows = tuple(StepRow(sequence.number, 0, 0) for sequence in sequences)
        nothing = plan._replace(seals=())
        self._tell_step(scheduler, nothing, lambda: (rows, _NO_WORK), times, "")
        self._tell_pages(times.end_ns)
        self._tell(Log(times.end_ns, "error", "engine", f"a step failed, {reason}"))
        for sequence in sequences:
            number, num_output = sequence.number, sequence.num_output
            self._tell(RequestAborted(times.end_ns, number, reason, num_output))

    def _shares(
        self, rows: list[PlanRow], committed: list[tuple[PlanRow, int]]
    ) -> tuple[tuple[StepRow, ...], StepWork]:
        shares = (
            StepRow(row.sequence.number, _prefill_tokens(row), num_new)
            for row, num_new in committed
        )
        return tuple(shares), self._work.count(rows)

    def _tell_step(
        self,
        scheduler: Scheduler,
        plan: Plan,
        shares: Callable[[], tuple[tuple[StepRow, ...], StepWork]],
        times: StepTimes,
        graph: str,
    ) -> None:
        """The numbers of now; what is counted row by row may wait: 60 us of 64 rows on an EPYC."""
        self._step += 1
        step, pool = self._step, self._pool
        counts = scheduler.num_waiting, scheduler.num_running
        pages = pool.num_used, pool.num_cached, pool.num_free
        num_wide_used = self._kv.num_wide_used

        def make() -> Step:
            rows, work = shares()
            return Step(
                times.begin_ns,
                times.end_ns,
                step,
                times.host_ns,
                times.device_ns,
                rows,
                *counts,
                *pages,
                graph,
                plan.waits_for,
                device_gap_ns=times.device_gap_ns,
                processor_wait_ns=times.processor_wait_ns,
                pages_wide=num_wide_used,
                packed_pages=len(plan.seals),
                **work._asdict(),
            )

        self._tell.later(make)

    def _tell_pages(self, t_ns: int) -> None:
        runs = self._pool.runs.take()
        if runs:
            self._pages_changed = True
            self._tell(PageDelta(t_ns, runs))

    def tell_memory(self, t_ns: int) -> None:
        self._next_memory_ns = t_ns + MEMORY_NS
        self._tell(MemorySample(t_ns, *self._runner.memory()))

    def _tell_periodic(self, t_ns: int) -> None:
        if self._tell.is_holding:
            return  # what is of now, and not of a step, can be told of a later now
        if t_ns >= self._next_memory_ns:
            self.tell_memory(t_ns)
        if self._pages_changed and t_ns >= self._next_keyframe_ns:
            self._pages_changed = False
            self._next_keyframe_ns = t_ns + KEYFRAME_NS
            self._tell(PageKeyframe(t_ns, self._pool.spans(), self._kv.forms()))


def _prefill_tokens(row: PlanRow) -> int:
    """The row's tokens less the one that the step before gave out."""
    return row.num_tokens if row.num_tokens > 1 or row.start < row.sequence.num_prompt else 0


def describe_sampling(params: SamplingParams) -> str:
    """The settings that differ from their defaults, for a person; "greedy" at temperature 0."""
    shown = {
        name: value
        for name, value in msgspec.to_builtins(params).items()
        if name in _SHOWN and not (name == "temperature" and value == 0)
    }
    words = [f"{name}={value}" for name, value in shown.items()]
    return " ".join((["greedy"] if params.temperature == 0 else []) + words)


_SHOWN: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def _flat(config: EngineConfig) -> dict[str, str | int | float | bool | None]:
    fields = msgspec.structs.asdict(config)
    scheduler = fields.pop("scheduler")
    return {**fields, **msgspec.structs.asdict(scheduler)}


def _tool_version() -> str:
    try:
        return version("llmtop")
    except PackageNotFoundError:
        return ""
