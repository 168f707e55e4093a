"""The one law: a state is what its events say, however they reached it."""

from __future__ import annotations

import gc
import weakref
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.bus import Bus
from profiler.errors import StreamError
from profiler.events import (
    EVENT_TYPES,
    AnyEvent,
    Dropped,
    GpuAbsent,
    GpuSample,
    Log,
    MemorySample,
    Phase,
    ProcessSample,
    Step,
    StepRow,
    decode_event,
    encode_event,
)
from profiler.folds.logs import MAX_TEXT
from profiler.folds.requests import MAX_DONE
from profiler.follower import Follower
from profiler.state import _HANDLERS, SessionState, time_of

few = settings(max_examples=12, deadline=None)
S = 1_000_000_000


def folded(events: list[AnyEvent], state: SessionState | None = None) -> SessionState:
    state = state or SessionState()
    for event in events:
        state.apply(event, state.seq + 1)
    return state


@few
@given(seed=st.integers(0, 10**6), cut=st.floats(0, 1), num_pages=st.integers(60, 900))
def test_restore_then_apply_equals_apply_all(
    workload: Any, seed: int, cut: float, num_pages: int
) -> None:
    made = workload(seed, concurrency=9, num_pages=num_pages, odd_share=0.1, step_ns=40_000_000)
    events = list(made.events(220))
    at = int(cut * len(events))
    whole = folded(events)
    resumed = folded(events[at:], SessionState.restore(folded(events[:at]).keyframe()))
    assert resumed.keyframe() == whole.keyframe()


@few
@given(seed=st.integers(0, 10**6))
def test_a_state_over_the_wire_equals_the_one_at_home(workload: Any, seed: int) -> None:
    events = list(workload(seed, concurrency=6, num_pages=200, odd_share=0.1).events(120))
    sent = [decode_event(encode_event(event)) for event in events]
    assert folded(sent).keyframe() == folded(events).keyframe()


def test_a_restored_state_shows_the_same_numbers(workload: Any) -> None:
    state = folded(list(workload(3, concurrency=9, num_pages=300, odd_share=0.1).events(1500)))
    copy = SessionState.restore(state.keyframe())
    assert copy.t_ns == state.t_ns and copy.seq == state.seq
    for name in ("ttft", "itl", "tpot", "e2el", "queue", "prefill"):
        assert copy.latency.quantiles(name) == state.latency.quantiles(name) is not None
    assert copy.throughput.generated_per_s == state.throughput.generated_per_s
    assert [v.itl_ns for v in copy.requests.done] == [v.itl_ns for v in state.requests.done]
    assert list(copy.seconds.rows) == list(state.seconds.rows)
    assert copy.totals == state.totals
    assert copy.joules_per_token == state.joules_per_token


def test_every_request_is_counted_once(workload: Any) -> None:
    events = list(workload(5, concurrency=20, num_pages=2000, output_tokens=(2, 9)).events(2000))
    state = folded(events)
    ended = [e for e in events if type(e).__name__ in ("RequestFinished", "RequestAborted")]
    requests = state.requests
    assert requests.num_finished + requests.num_aborted == len(ended) > MAX_DONE
    assert len(requests.done) == MAX_DONE
    assert sum(requests.finish_reasons.values()) == len(ended)
    told = {e.request: e.num_output_tokens for e in ended}
    assert all(v.num_output_tokens == told[v.request] == len(v.token_times) for v in requests.done)
    steps = [e for e in events if isinstance(e, Step)]
    made = sum(row.new_tokens for step in steps for row in step.rows)
    assert state.totals.generated_tokens == made
    assert state.requests.num_running == steps[-1].num_running - sum(
        e in ended for e in events[events.index(steps[-1]) :]
    )


def test_seconds_add_up_to_the_totals(workload: Any) -> None:
    state = folded(list(workload(2, concurrency=8, odd_share=0.1).events(900)))
    last = state.throughput.tally(state.t_ns // S)
    rows = state.seconds.rows
    assert sum(r.generated_tokens for r in rows) + last.generated_tokens == (
        state.totals.generated_tokens
    )
    assert sum(r.steps for r in rows) + last.steps == state.steps.num_steps
    assert [r.second for r in rows] == list(range(rows[0].second, rows[-1].second + 1))
    assert state.seconds.gpu_rows


def test_silent_seconds_are_there_and_empty() -> None:
    state = folded([Phase(5 * S, "ready")])
    state.advance(9 * S + 1)
    assert [(r.second, r.steps, r.itl_p95_ns) for r in state.seconds.rows] == [
        (second, 0, None) for second in range(5, 9)
    ]
    state.advance(100_000 * S)
    assert len(state.seconds.rows) == 300
    assert state.seconds.rows[-1].second == 99_999


def test_time_never_goes_back() -> None:
    state = folded([Phase(5 * S, "load"), Log(4 * S, "info", "core", "late")])
    state.advance(3 * S)
    assert state.t_ns == 5 * S
    assert time_of(Step(1, 7, 1, 0, None, (), 0, 0, 0, 0, 0)) == 7


@few
@given(seed=st.integers(0, 10**6), waits=st.lists(st.integers(0, 3 * S), min_size=1, max_size=20))
def test_time_that_passes_before_the_next_event_comes_moves_no_event_to_another_second(
    workload: Any, seed: int, waits: list[int]
) -> None:
    events = list(workload(seed, concurrency=6, num_pages=200, step_ns=70_000_000).events(150))
    waiting = SessionState()
    for number, event in enumerate(events):
        waiting.apply(event, number + 1)
        waiting.advance_within_second(waiting.t_ns + waits[number % len(waits)])
    prompt = folded(events)
    assert waiting.second == prompt.second
    prompt.advance(waiting.t_ns)
    assert waiting.keyframe() == prompt.keyframe()


def test_small_folds() -> None:
    state = folded(
        [
            Phase(1 * S, "load", 1, 10, "tensors"),
            Phase(2 * S, "load", 10, 10, "tensors"),
            Phase(3 * S, "ready"),
            GpuAbsent(3 * S, "the NVML library is not installed"),
            ProcessSample(3 * S, "core", 7, 90.0, 100),
            MemorySample(3 * S, "GPU", 10, 20, 3, 0, 100),
            Log(3 * S, "error", "core", "x" * 9999),
            Dropped(4 * S, 10, 5),
        ]
    )
    assert [(p.name, p.t_ns, p.t_last_ns, p.done) for p in state.phases.spans] == [
        ("load", 1 * S, 3 * S, 10),
        ("ready", 3 * S, 3 * S, 0),
    ]
    assert state.gpus.absent is not None
    assert state.memory.parts() == [("weights", 10), ("kv", 20), ("activations", 3)]
    assert len(state.log.lines[0].text) == MAX_TEXT + 1
    assert state.drops == 5
    state.apply(GpuSample(5 * S, 0, "GPU", 50, 100, energy_mj=5000))
    state.apply(GpuSample(6 * S, 0, "GPU", 60, 100, energy_mj=9000))
    assert state.gpus.absent is None
    assert state.gpus.devices[0].energy_j == 4.0
    assert state.memory.other_bytes == 27


def test_other_memory_is_that_of_the_engines_own_device() -> None:
    state = SessionState()
    state.apply(MemorySample(S, "GPU", 10, 20, 3, 0, 100))
    state.apply(GpuSample(S, 0, "GPU", 50, 100))
    state.apply(GpuSample(S, 1, "another", 80, 100))
    assert state.memory.other_bytes == 17
    state.apply(GpuSample(S, 2, "GPU", 60, 100))
    assert state.memory.other_bytes is None
    state.apply(GpuSample(S, 2, "GPU", 60, 100, process_mem_bytes=33))
    assert state.memory.other_bytes == 27
    state.apply(MemorySample(S, "a processor (8 threads)", 10, 20, 3, 0, 100))
    assert state.memory.other_bytes is None


def test_steps_that_were_lost_leave_a_gap_not_a_guess() -> None:
    state = SessionState()
    for number in (1, 2, 9, 10):
        row = (StepRow(1, 0, 1),)
        state.apply(Step(number * S, number * S + 5, number, 0, None, row, 0, 1, 0, 0, 0))
    assert state.steps.find(2) is not None and state.steps.find(5) is None
    assert state.requests.step_times.get(9) == 9 * S + 5
    assert state.requests.step_times.get(5) is None
    assert state.requests.get(1) is None, "rows of a request nobody announced make no view"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"noise",
        zlib.compress(b"noise"),
        zlib.compress(msgspec.msgpack.encode([1, 2])),
        b"x\x9c",
    ],
)
def test_a_foreign_keyframe_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(StreamError, match="keyframe"):
        SessionState.restore(data)


def test_a_damaged_keyframe_is_refused(workload: Any) -> None:
    data = folded(list(workload(1, concurrency=3).events(50))).keyframe()
    with pytest.raises(StreamError):
        SessionState.restore(data[: len(data) // 2])


def test_follower_keeps_up_and_counts_what_it_lost(workload: Any) -> None:
    events = list(workload(1, concurrency=3).events(200))
    bus = Bus(capacity=64)
    follower = Follower(bus)
    for event in events[:50]:
        bus.publish(event)
    with follower.read() as state:
        assert state.seq == 50
        assert state.keyframe() == folded(events[:50]).keyframe()
    for event in events[50:]:
        bus.publish(event)
    seq, data = follower.keyframe()
    assert seq == bus.head == len(events)
    assert SessionState.restore(data).drops == len(events) - 50 - 64


def test_bus_tells_each_reader_what_it_lost() -> None:
    bus = Bus(capacity=4)
    assert (bus.head, bus.oldest) == (0, 1)
    for i in range(1, 11):
        assert bus.publish(Phase(i, "ready")) == i
    first, events, lost = bus.read(after=3)
    assert (first, [e.t_ns for e in events], lost) == (7, [7, 8, 9, 10], 3)
    assert bus.read(after=8, limit=1) == (9, [Phase(9, "ready")], 0)
    assert bus.read(after=10) == (11, [], 0)


def test_a_state_that_nobody_holds_is_gone_at_once(workload: Any) -> None:
    """Without the collector: a seek drops a state of many thousand objects, again and again."""
    state = folded(list(workload(1, concurrency=3).events(50)))
    alive = weakref.ref(state)
    gc.disable()
    try:
        del state
        assert alive() is None
    finally:
        gc.enable()


def test_every_kind_of_event_is_folded() -> None:
    assert set(_HANDLERS) == set(EVENT_TYPES)
