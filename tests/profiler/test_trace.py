"""A trace says what the events say, and keeps the rules without which viewers draw nonsense."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from profiler.events import (
    AnyEvent,
    Finding,
    GpuSample,
    KernelRow,
    KernelWindow,
    Log,
    RequestAborted,
    RequestForwarded,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)
from profiler.state import SessionState, time_of
from profiler.trace import REQUEST, TraceEvent, trace_document, trace_events

S = 1_000_000_000
MS = 1_000_000


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    """Ten requests at a time and pages for fewer: preemptions, resumes, aborts."""
    made = workload(7, concurrency=10, num_pages=260, odd_share=0.1, step_ns=40_000_000)
    return list(made.events(700))


@pytest.fixture(scope="module")
def bounds(events: list[AnyEvent]) -> tuple[int, int]:
    times = [time_of(event) for event in events]
    return min(times), max(times)


@pytest.fixture(scope="module")
def trace(events: list[AnyEvent], bounds: tuple[int, int]) -> list[TraceEvent]:
    return list(trace_events(events, *bounds))


def by_id(trace: Iterable[TraceEvent]) -> dict[int, list[TraceEvent]]:
    found: dict[int, list[TraceEvent]] = defaultdict(list)
    for entry in trace:
        if entry.ph in "be":
            assert entry.id is not None
            found[entry.id].append(entry)
    return found


def ns(us: float) -> int:
    return round(us * 1000)


def test_every_request_is_one_slice_with_its_phases_inside(
    trace: list[TraceEvent], events: list[AnyEvent]
) -> None:
    lives = by_id(trace)
    assert len(lives) == sum(isinstance(event, RequestQueued) for event in events)
    for entries in lives.values():
        open_names: list[str] = []
        for entry in entries:
            if entry.ph == "b":
                assert bool(open_names) == (entry.name != REQUEST)
                open_names.append(entry.name)
            else:
                assert open_names.pop() == entry.name
        assert open_names == []
        times = [entry.ts for entry in entries]
        assert times == sorted(times)
        assert entries[0].name == entries[-1].name == REQUEST


def test_phases_are_those_of_the_fold(
    trace: list[TraceEvent], events: list[AnyEvent], bounds: tuple[int, int]
) -> None:
    state = SessionState()
    for event in events:
        state.apply(event)
    lives = by_id(trace)
    start_ns = bounds[0]
    assert state.requests.num_preemptions > 0
    for view in state.requests.done:
        names = [entry.name for entry in lives[view.request] if entry.ph == "b"]
        assert names == [REQUEST, *(span.phase.replace("queued", "queue") for span in view.spans)]
        begins = [ns(entry.ts) + start_ns for entry in lives[view.request] if entry.ph == "b"]
        assert begins == [view.t_queued_ns, *(span.t_ns for span in view.spans)]
        last = lives[view.request][-1]
        assert last.args["output_tokens"] == view.num_output_tokens
        assert last.args.get("ttft_ms") == (None if view.ttft_ns is None else view.ttft_ns / 1e6)


def test_slices_of_a_thread_follow_each_other(
    trace: list[TraceEvent], events: list[AnyEvent]
) -> None:
    slices = [entry for entry in trace if entry.ph == "X"]
    steps = [event for event in events if isinstance(event, Step)]
    assert [entry.args["step"] for entry in slices] == [step.step for step in steps]
    assert {entry.tid for entry in slices} == {1}
    check_no_overlap(slices)


def check_no_overlap(slices: list[TraceEvent]) -> None:
    ends: dict[int, int] = defaultdict(int)
    for entry in slices:
        assert ns(entry.ts) >= ends[entry.tid]
        assert entry.dur is not None and entry.dur >= 0
        ends[entry.tid] = ns(entry.ts) + ns(entry.dur)


def test_steps_that_overlap_get_a_thread_each() -> None:
    steps = [
        Step(S + i * 10 * MS, S + i * 10 * MS + 15 * MS, i, 1, None, (), 0, 0, 0, 0, 1)
        for i in range(20)
    ]
    trace = list(trace_events(steps, S, 2 * S))
    slices = [entry for entry in trace if entry.ph == "X"]
    assert {entry.tid for entry in slices} == {1, 2}
    check_no_overlap(slices)
    assert [(ns(e.ts), ns(e.dur or 0)) for e in slices] == [
        (step.t_ns - S, step.end_ns - step.t_ns) for step in steps
    ]
    named = [entry.tid for entry in trace if entry.name == "thread_name"]
    assert named == [1, 2]


def test_a_page_counter_sums_to_all_pages_at_every_step(trace: list[TraceEvent]) -> None:
    pages = [entry.args for entry in trace if entry.name == "KV pages"]
    assert pages and all(sum(v for v in args.values()) == 260 for args in pages)  # type: ignore[misc]
    assert all(args.keys() == {"used", "cached", "free"} for args in pages)


def test_what_a_device_does_not_tell_has_no_counter() -> None:
    trace = list(trace_events([GpuSample(S, 0, "GPU", 5, 10, util_pct=0.0)], S, S))
    assert {entry.name: entry.args for entry in trace} == {
        "GPU 0 %": {"busy": 0.0},
        "GPU 0 bytes": {"used": 5},
    }


def test_a_request_that_lives_on_ends_with_the_session_and_says_so() -> None:
    queued = RequestQueued(S, 1, "cmpl-1", 10, 5)
    trace = list(trace_events([queued], S, 3 * S))
    assert [(e.ph, e.name, e.ts) for e in trace] == [
        ("b", "request", 0.0),
        ("b", "queue", 0.0),
        ("e", "queue", 2e6),
        ("e", "request", 2e6),
    ]
    assert trace[-1].args["unfinished"] is True
    assert "ttft_ms" not in trace[-1].args


def test_clocks_of_two_processes_cannot_turn_a_slice_around() -> None:
    events: list[AnyEvent] = [
        RequestQueued(S + 5 * MS, 1, "a", 10, 5),
        RequestScheduled(S + 4 * MS, 1, 0),
        Step(S + 4 * MS, S + 9 * MS, 1, 1, None, (StepRow(1, 10, 1),), 0, 1, 1, 0, 0),
    ]
    entries = by_id(trace_events(events, S, 2 * S))[1]
    times = [entry.ts for entry in entries]
    assert times == sorted(times)


def test_the_document_is_json_and_keeps_every_nanosecond(
    events: list[AnyEvent], bounds: tuple[int, int]
) -> None:
    hostile = Log(bounds[1], "warning", "x", '\x1b[2J"</script>\u202e')
    data = b"".join(trace_document([*events, hostile], *bounds, {"session": "s.db"}))
    document = json.loads(data)
    assert document["otherData"] == {"session": "s.db"}
    entries = document["traceEvents"]
    assert entries[-1]["ph"] == "e" or entries[-1]["name"].startswith("log")
    steps = [entry["ts"] for entry in entries if entry["ph"] == "X"]
    starts = [event.t_ns - bounds[0] for event in events if isinstance(event, Step)]
    assert [ns(ts) for ts in steps] == starts
    assert b"\x1b" not in data


def test_the_trace_comes_while_the_events_are_read(
    events: list[AnyEvent], bounds: tuple[int, int]
) -> None:
    taken = 0

    def stream() -> Iterable[AnyEvent]:
        nonlocal taken
        for event in events:
            taken += 1
            yield event

    pieces = trace_document(stream(), *bounds, {})
    for _ in range(200):
        next(pieces)
    assert 0 < taken < 200


def test_of_a_proxy_the_server_is_named_and_no_preemption_is_counted() -> None:
    events: list[AnyEvent] = [
        SessionStart(0, 0, "", "m", "", 0, 0, 0, 0, 0, 0, 0, 0, upstream="http://127.0.0.1:9"),
        RequestQueued(1000, 1, "req-1", None, None),
        RequestForwarded(2000, 1),
        RequestAborted(9000, 1, "disconnect", 0),
    ]
    told = list(trace_events(events, 0, 10_000))
    (process,) = [e.args for e in told if e.name == "process_name"]
    assert process == {"name": "llmtop: m on http://127.0.0.1:9"}
    (end,) = [e.args for e in told if e.ph == "e" and e.name == "request"]
    assert end == {"end": "disconnect", "output_tokens": 0}


def test_a_window_of_kernels_is_told_where_it_ended() -> None:
    rows = tuple(KernelRow(f"k{n}", 2, n * 1_000_000) for n in range(20, 0, -1))
    events = [
        SessionStart(0, 0, "", "m", "cpu", 1, 1, 1, 1, 1, 1, 1, 1, {}),
        KernelWindow(9000, 4000, 2_000_000, 7, 3, "cuda", rows),
    ]
    (told,) = [e for e in trace_events(events, 0, 10_000) if e.name.startswith("kernels")]
    assert (told.name, told.ts) == ("kernels from step 7", 9.0)
    assert told.args is not None
    assert told.args["steps"] == 3
    assert told.args["cost_ms"] == 2.0
    assert [told.args[f"k{n} ms"] for n in (20, 9)] == [20.0, 9.0]
    assert "k8 ms" not in told.args


def test_a_finding_stands_where_it_began_and_where_it_ended() -> None:
    said = {"rule": "host_bound", "level": "warning", "since_ns": 5, "text": "waits", "step": 7}
    events = [
        SessionStart(0, 0, "", "m", "cpu", 1, 1, 1, 1, 1, 1, 1, 1, {}),
        Finding(3000, 1, status="open", evidence={"idle_pct": 60.0}, **said),
        Finding(9000, 1, status="closed", **said),
    ]
    told = [e for e in trace_events(events, 0, 10_000) if e.name.startswith("finding")]
    assert [(e.name, e.ts) for e in told] == [
        ("finding open: host_bound", 3.0),
        ("finding closed: host_bound", 9.0),
    ]
    assert told[0].args == {"text": "waits", "idle_pct": 60.0, "step": 7}
