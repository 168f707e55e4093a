"""A session as Chrome JSON trace events, which Perfetto and chrome://tracing open.

Requests are asynchronous slices, one `id` each: the whole life and within it the phases, since many
of them overlap. Engine steps are slices of a thread. Pages, requests and devices are counters; log
lines, findings, phases of the server and losses are instants. Times are microseconds since the
session began, with the nanoseconds behind the point.

Source: the Trace Event Format document of the Chromium project, and Perfetto's notes on what it
imports of it (slices of one thread must nest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from profiler.events import (
    AnyEvent,
    Dropped,
    Event,
    Finding,
    GpuSample,
    KernelWindow,
    Log,
    Phase,
    ProcessSample,
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
    TokensReceived,
)
from profiler.folds.request_view import RequestView
from profiler.folds.requests import Requests

PROCESS: Final = 1
STEP_THREAD: Final = 1
# A step that is launched before the one before it was read back overlaps it, and needs a thread of
# its own; more than this many are never under way at once.
MAX_STEP_THREADS: Final = 8
TOLD_KERNELS: Final = 12
REQUEST: Final = "request"

Args = dict[str, str | int | float | bool | None]


class TraceEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of `traceEvents`. `ts` and `dur` are microseconds."""

    ph: str
    name: str
    ts: float
    pid: int = 0
    tid: int = 0
    dur: float | None = None
    cat: str = ""
    id: int | None = None
    s: str = ""
    args: Args = {}


def trace_document(
    events: Iterable[AnyEvent], start_ns: int, end_ns: int, facts: Args
) -> Iterator[bytes]:
    """The pieces of one JSON document, `facts` about the session under "otherData"."""
    yield b'{"displayTimeUnit":"ms","otherData":' + msgspec.json.encode(facts)
    yield b',"traceEvents":['
    between = b"\n"
    for entry in trace_events(events, start_ns, end_ns):
        yield between + msgspec.json.encode(entry)
        between = b",\n"
    yield b"\n]}\n"


def trace_events(events: Iterable[AnyEvent], start_ns: int, end_ns: int) -> Iterator[TraceEvent]:
    """The session's trace, of events in the stream's order; only what is under way is kept.

    A request's slices come when it ends, and at `end_ns` for those that then live.
    """
    trace = Trace(start_ns)
    for event in events:
        yield from trace.event(event)
    yield from trace.finish(end_ns)


class Trace:
    """Turns one event after the other into trace events."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._requests = Requests()
        self._step_ends_ns: list[int] = []
        self._phase = ""

    def event(self, event: AnyEvent) -> Iterator[TraceEvent]:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            yield from handler(self, event)

    def finish(self, end_ns: int) -> Iterator[TraceEvent]:
        """The requests that have not ended, as far as they came."""
        for view in self._requests.live.values():
            yield from self._life(view, end_ns, {"unfinished": True})

    def _us(self, t_ns: int) -> float:
        return (t_ns - self._start_ns) / 1000

    def _counter(self, t_ns: int, name: str, values: Args) -> Iterator[TraceEvent]:
        """A counter track per value; what is not known has no point."""
        known: Args = {key: value for key, value in values.items() if value is not None}
        if known:
            yield TraceEvent("C", name, self._us(t_ns), PROCESS, args=known)

    def _instant(self, t_ns: int, name: str, args: Args) -> Iterator[TraceEvent]:
        yield TraceEvent("i", name, self._us(t_ns), PROCESS, cat="event", s="p", args=args)

    def _session_start(self, event: SessionStart) -> Iterator[TraceEvent]:
        name = f"llmtop: {event.model} on {event.device or event.upstream}"
        yield TraceEvent("M", "process_name", 0.0, PROCESS, args={"name": name})

    def _step_thread(self, event: Step) -> Iterator[TraceEvent]:
        """The name of a new thread, if one is needed for steps that overlap."""
        ends = self._step_ends_ns
        number = len(ends)
        if all(end_ns > event.t_ns for end_ns in ends) and number < MAX_STEP_THREADS:
            ends.append(0)
            name = "engine steps" if number == 0 else f"engine steps, overlapping {number}"
            args: Args = {"name": name}
            yield TraceEvent("M", "thread_name", 0.0, PROCESS, STEP_THREAD + number, args=args)

    def _step(self, event: Step) -> Iterator[TraceEvent]:
        self._requests.step(event)
        yield from self._step_thread(event)
        ends = self._step_ends_ns
        thread = min(range(len(ends)), key=lambda i: (ends[i] > event.t_ns, i))
        begin_ns = max(event.t_ns, ends[thread])
        ends[thread] = max(begin_ns, event.end_ns)
        yield TraceEvent(
            "X",
            step_kind(event),
            self._us(begin_ns),
            PROCESS,
            STEP_THREAD + thread,
            dur=(ends[thread] - begin_ns) / 1000,
            cat="step",
            args=_step_args(event),
        )
        pages: Args = {
            "used": event.pages_used,
            "cached": event.pages_cached,
            "free": event.pages_free,
        }
        load: Args = {"running": event.num_running, "waiting": event.num_waiting}
        yield from self._counter(event.end_ns, "KV pages", pages)
        yield from self._counter(event.end_ns, "requests", load)

    def _ended(self, event: RequestFinished | RequestAborted) -> Iterator[TraceEvent]:
        view = self._requests.ended(event)
        if view is not None:
            yield from self._life(view, event.t_ns, {"end": event.reason})

    def _life(self, view: RequestView, end_ns: int, args: Args) -> Iterator[TraceEvent]:
        """One request's slices, each within the one before it and none backwards in time."""
        at_ns = view.t_queued_ns
        yield self._edge("b", REQUEST, at_ns, view, _request_args(view))
        for span in view.spans:
            begin_ns = max(at_ns, span.t_ns)
            at_ns = max(begin_ns, end_ns if span.end_ns is None else span.end_ns)
            yield self._edge("b", _PHASE_NAMES.get(span.phase, span.phase), begin_ns, view, {})
            yield self._edge("e", _PHASE_NAMES.get(span.phase, span.phase), at_ns, view, {})
        yield self._edge("e", REQUEST, max(at_ns, end_ns), view, args | _outcome(view))

    def _edge(self, ph: str, name: str, t_ns: int, view: RequestView, args: Args) -> TraceEvent:
        return TraceEvent(
            ph, name, self._us(t_ns), PROCESS, cat=REQUEST, id=view.request, args=args
        )

    def _preempted(self, event: RequestPreempted) -> Iterator[TraceEvent]:
        self._requests.preempted(event)
        args: Args = {"request": event.request, "reason": event.reason, "lost": event.lost_tokens}
        yield from self._instant(event.t_ns, "preempted", args)

    def _server_phase(self, event: Phase) -> Iterator[TraceEvent]:
        if event.name != self._phase:
            self._phase = event.name
            yield from self._instant(event.t_ns, f"phase: {event.name}", {})

    def _log(self, event: Log) -> Iterator[TraceEvent]:
        args: Args = {"source": event.source, "text": event.text}
        yield from self._instant(event.t_ns, f"log: {event.level}", args)

    def _finding(self, event: Finding) -> Iterator[TraceEvent]:
        args: Args = {"text": event.text, **event.evidence}
        for name in ("request", "step"):
            if number := getattr(event, name):
                args[name] = number
        yield from self._instant(event.t_ns, f"finding {event.status}: {event.rule}", args)

    def _kernels(self, event: KernelWindow) -> Iterator[TraceEvent]:
        args: Args = {"steps": event.num_steps, "cost_ms": event.cost_ns / 1e6}
        args |= {f"{row.name} ms": row.time_ns / 1e6 for row in event.kernels[:TOLD_KERNELS]}
        yield from self._instant(event.t_ns, f"kernels from step {event.first_step}", args)

    def _gpu(self, event: GpuSample) -> Iterator[TraceEvent]:
        for unit, values in _gpu_values(event).items():
            yield from self._counter(event.t_ns, f"GPU {event.device} {unit}", values)

    def _process(self, event: ProcessSample) -> Iterator[TraceEvent]:
        yield from self._counter(event.t_ns, "CPU % of one core", {event.role: event.cpu_pct})
        yield from self._counter(event.t_ns, "process memory bytes", {event.role: event.rss_bytes})


_PHASE_NAMES: Final = {"queued": "queue"}
_Handler = Callable[[Trace, Any], Iterable[TraceEvent]]


def _folds(fold: Callable[[Requests, Any], object]) -> _Handler:
    """Tells the requests of the event, and draws nothing yet."""

    def handle(trace: Trace, event: Event) -> Iterable[TraceEvent]:
        fold(trace._requests, event)
        return ()

    return handle


_HANDLERS: Final[dict[type[Event], _Handler]] = {
    SessionStart: Trace._session_start,
    Phase: Trace._server_phase,
    RequestQueued: _folds(Requests.queued),
    RequestScheduled: _folds(Requests.scheduled),
    RequestFirstToken: _folds(Requests.first_token),
    RequestForwarded: _folds(Requests.forwarded),
    TokensReceived: _folds(Requests.received),
    RequestAnswered: _folds(Requests.answered),
    RequestPreempted: Trace._preempted,
    RequestFinished: Trace._ended,
    RequestAborted: Trace._ended,
    RequestRejected: lambda trace, event: trace._instant(
        event.t_ns, "rejected", {"reason": event.reason, "prompt_tokens": event.num_prompt_tokens}
    ),
    Step: Trace._step,
    GpuSample: Trace._gpu,
    ProcessSample: Trace._process,
    Log: Trace._log,
    Finding: Trace._finding,
    KernelWindow: Trace._kernels,
    Dropped: lambda trace, event: trace._instant(event.t_ns, "events lost", {"count": event.count}),
}


def step_kind(event: Step) -> str:
    """What the step computed: "prefill", "decode" or "mixed"."""
    prefills = sum(row.prefill_tokens > 0 for row in event.rows)
    if prefills == 0:
        return "decode"
    return "prefill" if prefills == len(event.rows) else "mixed"


def _step_args(event: Step) -> Args:
    args: Args = {
        "step": event.step,
        "requests": len(event.rows),
        "prefill_tokens": sum(row.prefill_tokens for row in event.rows),
        "new_tokens": sum(row.new_tokens for row in event.rows),
        "host_us": event.host_ns / 1000,
    }
    if event.device_ns is not None:
        args["device_us"] = event.device_ns / 1000
    if event.device_gap_ns is not None:
        args["device_gap_us"] = event.device_gap_ns / 1000
    if event.graph:
        args["graph"] = event.graph
    return args


def _request_args(view: RequestView) -> Args:
    return {
        "request": view.request,
        "name": view.name,
        "prompt_tokens": view.num_prompt_tokens,
        "cached_tokens": view.cached_tokens,
        "max_tokens": view.max_tokens,
    }


def _outcome(view: RequestView) -> Args:
    """What came of it; a latency that there is none of is left out."""
    latencies = {"ttft_ms": view.ttft_ns, "tpot_ms": view.tpot_ns, "e2el_ms": view.e2el_ns}
    known: Args = {name: ns / 1e6 for name, ns in latencies.items() if ns is not None}
    if not view.is_foreign:
        known["preemptions"] = view.preemptions
    return {"output_tokens": view.num_output_tokens, **known}


def _gpu_values(event: GpuSample) -> dict[str, Args]:
    """By unit, since a counter track has one."""
    return {
        "%": {"busy": event.util_pct, "memory bus": event.mem_util_pct},
        "W": {"power": event.power_w},
        "°C": {"temperature": event.temp_c},
        "MHz": {"SM": event.sm_mhz, "memory": event.mem_mhz},
        "bytes": {"used": event.mem_used_bytes, "ours": event.process_mem_bytes},
    }
