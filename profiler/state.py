"""The one place where events become numbers: a live, an attached and a replayed session look here.

A state reads no clock and does no I/O: it stands where the newest event, or `advance`, put it.
Events may come a few ms out of order, since several processes write them; each counts in the
second in which it reached the state.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from profiler.conditions import Condition
from profiler.errors import StreamError
from profiler.events import (
    SCHEMA_VERSION,
    AnyEvent,
    BlockDelta,
    BlockMapBegin,
    ClientBehind,
    Dropped,
    Event,
    Finding,
    GpuAbsent,
    GpuSample,
    KernelWindow,
    Log,
    MemorySample,
    MetricsSample,
    ObserverCost,
    PageDelta,
    PageKeyframe,
    Phase,
    ProcessSample,
    Recording,
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestPreempted,
    RequestQueued,
    RequestRejected,
    RequestScheduled,
    SessionStart,
    Step,
    TargetState,
    TokensReceived,
)
from profiler.folds import packing, seconds
from profiler.folds.clients import Clients
from profiler.folds.clock import NS_PER_S, Clock
from profiler.folds.findings import Findings
from profiler.folds.fleet import Fleet
from profiler.folds.foreign import Foreign
from profiler.folds.gpus import Gpus
from profiler.folds.hashedblocks import HashedBlocks
from profiler.folds.held import Held
from profiler.folds.latency import LatencyProfiler
from profiler.folds.logs import Logs
from profiler.folds.memory import MemoryProfiler
from profiler.folds.observing import Observing
from profiler.folds.pages import Pages
from profiler.folds.phases import Phases, PhaseSpan
from profiler.folds.requests import Requests
from profiler.folds.roofline import Roofline
from profiler.folds.seconds import SecondRow, Seconds
from profiler.folds.slo import Slo
from profiler.folds.steps import Steps
from profiler.folds.throughput import ThroughputMonitor
from profiler.folds.totals import Totals
from profiler.objectives import request_bounds, told_objectives
from profiler.state_frame import StateFrame
from profiler.state_freezing import fill, frame_of

MAX_PROCESSES: Final = 64


class SessionState:
    """All that is known of a session at `t_ns`, after the event of sequence number `seq`.

    `drops` counts events that this reader lost; `processes` holds the newest sample of each role;
    `recording` is what the recorder last said of its file, None when nobody records;
    `kernels` is the newest window of kernels, None before the first;
    `objectives` are what the session said at its start that it is held to.
    The folds are read, never written, by whoever shows them.
    """

    def __init__(self, slo: Slo | None = None) -> None:
        self.clock = Clock()
        self.seq = 0
        self.session: SessionStart | None = None
        self.phases = Phases()
        self.requests = Requests()
        self.steps = Steps()
        self.pages = Pages()
        self.gpus = Gpus()
        self.latency = LatencyProfiler(self.clock)
        self.throughput = ThroughputMonitor(self.clock, slo or Slo())
        self.roofline = Roofline(self.clock)
        self.totals = Totals()
        self.seconds = Seconds()
        self.memory = MemoryProfiler(self.gpus)
        self.log = Logs()
        self.processes: dict[str, ProcessSample] = {}
        self.recording: Recording | None = None
        self.kernels: KernelWindow | None = None
        self.observing = Observing()
        self.held = Held()
        self.clients = Clients()
        self.foreign = Foreign(self.clock)
        self.fleet = Fleet(self.clock)
        self.blocks = HashedBlocks()
        self.findings = Findings()
        self.objectives: tuple[Condition, ...] = ()
        self.drops = 0

    @property
    def t_ns(self) -> int:
        return self.clock.t_ns

    @property
    def second(self) -> int:
        """The second that runs."""
        return self.clock.second

    @property
    def phase(self) -> PhaseSpan | None:
        """The phase that lasts."""
        return self.phases.last

    @property
    def upstream(self) -> str:
        """The address of the server that computes, seen through a proxy; "" for an engine of ours,
        which tells of its steps and pages."""
        return "" if self.session is None else self.session.upstream

    @property
    def joules_per_token(self) -> float | None:
        """Energy of all devices per output token since the session began; None if not measured."""
        energies = [history.energy_j for history in self.gpus.devices.values()]
        known = [energy for energy in energies if energy is not None]
        if not known or not self.totals.generated_tokens:
            return None
        return sum(known) / self.totals.generated_tokens

    def apply(self, event: AnyEvent, seq: int = 0) -> None:
        """Fold one event, of sequence number `seq` where it has one."""
        self.advance(time_of(event))
        _HANDLERS[type(event)](self, event)
        if seq:
            self.seq = seq

    def advance(self, t_ns: int) -> None:
        """Let time pass up to `t_ns`: windows move, seconds close. Never goes back."""
        clock = self.clock
        if t_ns <= clock.t_ns:
            return
        if clock.t_ns == 0:
            clock.t_ns = t_ns
            self.throughput.start()
            return
        if t_ns // NS_PER_S != clock.second:
            self._close_seconds(t_ns // NS_PER_S)
        clock.t_ns = t_ns

    def advance_within_second(self, t_ns: int) -> None:
        """The same, but no further than the second that runs: while events of what has passed may
        still be on their way, only an event ends it. So each counts in the same second for all who
        fold it, however late it comes."""
        self.advance(min(t_ns, (self.second + 1) * NS_PER_S - 1))

    def _close_seconds(self, until: int) -> None:
        clock = self.clock
        while clock.second < until:
            self.seconds.close(self._second_row(clock.second), self.gpus.seconds(clock.second))
            clock.t_ns = max(clock.second + 1, until - seconds.CAPACITY) * NS_PER_S
        self.latency.trim()
        self.throughput.trim()
        self.roofline.trim()

    def _second_row(self, second: int) -> SecondRow:
        tally = self.throughput.tally(second)
        ttft, itl = self.latency.ttft.of_second(second), self.latency.itl.of_second(second)
        return SecondRow(
            second,
            tally.steps,
            tally.prefill_tokens,
            tally.cached_tokens,
            tally.generated_tokens,
            tally.queued,
            tally.finished,
            tally.good,
            tally.failed,
            tally.preemptions,
            self.requests.num_running,
            self.requests.num_waiting,
            self.pages.used,
            self.pages.cached,
            self.pages.free,
            ttft.p95 if ttft else None,
            itl.p50 if itl else None,
            itl.p95 if itl else None,
            itl.max if itl else None,
            self.roofline.possible_per_s(second),
        )

    def _session_start(self, event: SessionStart) -> None:
        self.session = event
        self.pages.resize(event.num_pages)
        self.roofline.start(event)
        self.throughput.tells_steps = not event.upstream
        self.objectives = told_objectives(event)
        if self.objectives:
            self.throughput.slo = request_bounds(self.objectives)

    def _queued(self, event: RequestQueued) -> None:
        self.requests.queued(event)
        self.throughput.queued()

    def _scheduled(self, event: RequestScheduled) -> None:
        view = self.requests.scheduled(event)
        if view is None or event.resumed:
            return
        self.latency.scheduled(view)
        self.throughput.scheduled(event.cached_tokens)
        self.pages.lookup(view.num_prompt_tokens or 0, event.cached_tokens)

    def _first_token(self, event: RequestFirstToken) -> None:
        view = self.requests.first_token(event)
        if view is not None:
            self.latency.first_token(view)
            self.totals.first_token(view)

    def _preempted(self, event: RequestPreempted) -> None:
        self.requests.preempted(event)
        self.throughput.preempted()

    def _finished(self, event: RequestFinished) -> None:
        view = self.requests.ended(event)
        if view is not None:
            self.latency.finished(view)
            self.throughput.ended(view, finished=True)
            self.totals.finished(view)

    def _aborted(self, event: RequestAborted) -> None:
        view = self.requests.ended(event)
        if view is not None:
            self.throughput.ended(view, finished=False)

    def _step(self, event: Step) -> None:
        share = self.requests.step(event)
        self.steps.step(event, share.num_prefills, share.prefill_tokens)
        self.latency.gaps(share.gaps)
        self.throughput.step(share)
        self.throughput.packed(event.packed_pages)
        self.roofline.step(event, share.new_tokens)
        self.totals.step(event, share)

    def _received(self, event: TokensReceived) -> None:
        share = self.requests.received(event)
        self.latency.gaps(share.gaps)
        self.throughput.received(share.new_tokens)
        self.totals.received(share)

    def _answered(self, event: RequestAnswered) -> None:
        self.requests.answered(event)
        # What came in pieces of unknown size was counted as one token each.
        late_tokens = max(0, (event.num_output_tokens or 0) - (event.counted_tokens or 0))
        self.throughput.received(late_tokens)
        self.totals.answered(event, late_tokens)

    def _page_delta(self, event: PageDelta) -> None:
        self.pages.delta(event)
        for request in {run.request for run in event.runs}:
            view = self.requests.live.get(request)
            if view is not None:
                view.num_pages = self.pages.num_pages_of(request)

    def _process(self, event: ProcessSample) -> None:
        if event.role in self.processes or len(self.processes) < MAX_PROCESSES:
            self.processes[event.role] = event

    def _recording(self, event: Recording) -> None:
        self.recording = event

    def _kernel_window(self, event: KernelWindow) -> None:
        self.kernels = event
        self.held.window(event)

    def _metrics(self, event: MetricsSample) -> None:
        (self.fleet if event.target else self.foreign).sample(event)

    def _dropped(self, event: Dropped) -> None:
        self.drops += event.count

    def keyframe(self) -> bytes:
        """The whole state, for `restore`: compressed, some tens of KiB under load."""
        return packing.encode(frame_of(self))

    @classmethod
    def restore(cls, data: bytes) -> SessionState:
        """The state that wrote this keyframe, as it was. Raises: StreamError."""
        try:
            frame = packing.decode(data, StateFrame)
            if frame.schema != SCHEMA_VERSION:
                raise ValueError(f"schema {frame.schema}, this program reads {SCHEMA_VERSION}")
            state = cls()
            fill(state, frame)
        except (msgspec.MsgspecError, zlib.error, ValueError) as error:
            raise StreamError(f"this is not a keyframe that llmtop can read ({error})") from None
        return state


def time_of(event: AnyEvent) -> int:
    """When an event is known to have happened: a step's is its end."""
    return event.end_ns if type(event) is Step else event.t_ns


# A table of functions rather than of bound methods: those would tie each state into a cycle, and
# states that seeks throw away would pile up until the collector's next full run (50 ms and more).
_HANDLERS: Final[dict[type[Event], Callable[[SessionState, Any], None]]] = {
    SessionStart: SessionState._session_start,
    Phase: lambda state, event: state.phases.phase(event),
    RequestQueued: SessionState._queued,
    RequestRejected: lambda state, event: state.requests.rejected(event),
    RequestScheduled: SessionState._scheduled,
    RequestFirstToken: SessionState._first_token,
    RequestPreempted: SessionState._preempted,
    RequestFinished: SessionState._finished,
    RequestAborted: SessionState._aborted,
    Step: SessionState._step,
    PageDelta: SessionState._page_delta,
    PageKeyframe: lambda state, event: state.pages.keyframe(event),
    GpuSample: lambda state, event: state.gpus.sample(event),
    GpuAbsent: lambda state, event: state.gpus.missing(event),
    ProcessSample: SessionState._process,
    MemorySample: lambda state, event: state.memory.sample(event),
    Recording: SessionState._recording,
    Log: lambda state, event: state.log.log(event),
    Finding: lambda state, event: state.findings.finding(event),
    KernelWindow: SessionState._kernel_window,
    ClientBehind: lambda state, event: state.clients.behind(event),
    ObserverCost: lambda state, event: state.observing.told(event),
    MetricsSample: SessionState._metrics,
    TargetState: lambda state, event: state.fleet.target(event),
    RequestForwarded: lambda state, event: state.requests.forwarded(event),
    TokensReceived: SessionState._received,
    RequestAnswered: SessionState._answered,
    BlockMapBegin: lambda state, event: state.blocks.begin(event),
    BlockDelta: lambda state, event: state.blocks.delta(event),
    Dropped: SessionState._dropped,
}
