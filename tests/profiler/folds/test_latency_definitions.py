"""Latencies against timelines computed by hand, in ms from a start that is not zero."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.events import (
    AnyEvent,
    RequestAborted,
    RequestFinished,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestScheduled,
    Step,
    StepRow,
)
from profiler.folds.slo import Slo
from profiler.state import SessionState

MS = 1_000_000
START = 50_000 * MS


def at(ms: float) -> int:
    return START + round(ms * MS)


def queued(ms: float, request: int, prompt: int = 10) -> RequestQueued:
    return RequestQueued(at(ms), request, f"r-{request}", prompt, 100)


def step(number: int, begin: float, end: float, *rows: tuple[int, int, int]) -> Step:
    return Step(
        at(begin), at(end), number, 0, None, tuple(StepRow(*row) for row in rows), 0, 0, 0, 0, 0
    )


def folded(*events: AnyEvent) -> SessionState:
    state = SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return state


@pytest.fixture
def one_request() -> SessionState:
    """Queued at 0, scheduled at 30, prefill in two chunks, tokens at 100, 120, 150 and 190."""
    return folded(
        queued(0, 1),
        RequestScheduled(at(30), 1, 4),
        step(1, 30, 60, (1, 3, 0)),
        step(2, 61, 100, (1, 3, 1)),
        RequestFirstToken(at(100), 1),
        step(3, 101, 120, (1, 0, 1)),
        step(4, 121, 150, (1, 0, 1)),
        step(5, 151, 190, (1, 0, 1)),
        RequestFinished(at(190), 1, "stop", 4),
    )


def test_stamps_of_one_request(one_request: SessionState) -> None:
    view = one_request.requests.done[0]
    assert view.queue_ns == 30 * MS
    assert view.prefill_ns == 70 * MS
    assert view.ttft_ns == 100 * MS
    assert view.decode_ns == 90 * MS
    assert view.e2el_ns == 190 * MS
    assert view.tpot_ns == 30 * MS  # (190 - 100) / 3
    assert view.itl_ns == [20 * MS, 30 * MS, 40 * MS]
    assert list(view.token_times) == [at(100), at(120), at(150), at(190)]
    assert list(view.token_steps) == [2, 3, 4, 5]
    assert view.tokens_per_s == pytest.approx(1 / 0.030)
    assert (view.computed_tokens, view.cached_tokens) == (10, 4)


def test_phases_of_one_request(one_request: SessionState) -> None:
    spans = one_request.requests.done[0].spans
    assert [(s.phase, s.t_ns, s.end_ns) for s in spans] == [
        ("queued", at(0), at(30)),
        ("prefill", at(30), at(100)),
        ("decode", at(100), at(190)),
    ]


def test_windows_hold_the_same_values(one_request: SessionState) -> None:
    latency = one_request.latency
    found = {name: latency.quantiles(name) for name in ("queue", "prefill", "ttft", "tpot", "e2el")}
    assert {name: q and (q.n, q.max) for name, q in found.items()} == {
        "queue": (1, 30 * MS),
        "prefill": (1, 70 * MS),
        "ttft": (1, 100 * MS),
        "tpot": (1, 30 * MS),
        "e2el": (1, 190 * MS),
    }
    itl = latency.quantiles("itl")
    assert itl is not None
    assert (itl.n, itl.mean, itl.p50, itl.max) == (3, 30 * MS, 30 * MS, 40 * MS)
    assert itl.p90 == pytest.approx(38 * MS)  # 0.9 * 2 = 1.8: 30 + 0.8 * 10
    assert itl.p99 is None


def test_a_single_token_has_no_tpot() -> None:
    state = folded(
        queued(0, 1),
        RequestScheduled(at(1), 1, 0),
        step(1, 1, 5, (1, 10, 1)),
        RequestFirstToken(at(5), 1),
        RequestFinished(at(5), 1, "length", 1),
    )
    view = state.requests.done[0]
    assert view.tpot_ns is None
    assert view.itl_ns == []
    assert state.latency.quantiles("tpot") is None
    assert state.latency.quantiles("itl") is None
    assert view.e2el_ns == view.ttft_ns == 5 * MS


def test_tokens_of_one_step_share_its_gap() -> None:
    """Three tokens after 30 ms are three latencies of 10 ms."""
    state = folded(
        queued(0, 1),
        RequestScheduled(at(0), 1, 0),
        step(1, 0, 10, (1, 10, 1)),
        RequestFirstToken(at(10), 1),
        step(2, 10, 40, (1, 0, 3)),
        step(3, 40, 60, (1, 0, 1)),
    )
    view = state.requests.live[1]
    assert view.itl_ns == [10 * MS] * 3 + [20 * MS]
    assert view.num_output_tokens == 5
    assert list(view.token_times) == [at(10), at(40), at(40), at(40), at(60)]
    itl = state.latency.quantiles("itl")
    assert itl is not None and (itl.n, itl.max) == (4, 20 * MS)


def test_a_preemption_shows_as_one_long_gap() -> None:
    state = folded(
        queued(0, 1),
        RequestScheduled(at(0), 1, 0),
        step(1, 0, 10, (1, 10, 1)),
        RequestFirstToken(at(10), 1),
        step(2, 10, 20, (1, 0, 1)),
        RequestPreempted(at(20), 1, "no free pages", 12),
        step(3, 20, 30, (2, 0, 1)),
        RequestScheduled(at(30), 1, 8, resumed=True),
        step(4, 30, 60, (1, 4, 1)),
        step(5, 60, 70, (1, 0, 1)),
    )
    view = state.requests.live[1]
    assert view.itl_ns == [10 * MS, 40 * MS, 10 * MS]
    assert [s.phase for s in view.spans] == [
        "queued",
        "prefill",
        "decode",
        "preempted",
        "prefill",
        "decode",
    ]
    assert (view.preemptions, view.queue_ns, view.computed_tokens) == (1, 0, 12)
    queue = state.latency.quantiles("queue")
    assert queue is not None and queue.n == 1
    assert state.pages.query_tokens == 10, "a return is no new lookup"


def test_an_abort_counts_only_what_it_had_passed() -> None:
    state = folded(
        queued(0, 1),
        RequestScheduled(at(2), 1, 0),
        step(1, 2, 12, (1, 10, 1)),
        RequestFirstToken(at(12), 1),
        step(2, 12, 20, (1, 0, 1)),
        RequestAborted(at(21), 1, "disconnect", 2),
    )
    assert state.requests.num_aborted == 1
    ttft, itl = state.latency.quantiles("ttft"), state.latency.quantiles("itl")
    assert ttft is not None and ttft.n == 1
    assert itl is not None and itl.n == 1
    assert state.latency.quantiles("e2el") is None
    assert state.throughput.finished == 0


def test_values_leave_the_window_after_its_length() -> None:
    state = folded(
        queued(0, 1), RequestScheduled(at(30), 1, 0), step(1, 30, 60, (1, 10, 1)),
        RequestFirstToken(at(60), 1),
    )  # fmt: skip
    window_ms = state.latency.window_s * 1000
    state.advance(at(window_ms - 1000))
    assert state.latency.quantiles("ttft") is not None
    state.advance(at(window_ms + 1000))
    assert state.latency.quantiles("ttft") is None
    assert state.totals.ttft_s.counts[-1] == 0 and sum(state.totals.ttft_s.counts) == 1


def test_rates_divide_by_the_time_there_was() -> None:
    """20 tokens over two seconds of a young session are ten a second."""
    events: list[AnyEvent] = [queued(0, 1), RequestScheduled(at(0), 1, 6)]
    events += [step(n, 100 * n - 100, 100 * n, (1, 4 if n == 1 else 0, 1)) for n in range(1, 21)]
    state = folded(*events)
    assert state.throughput.generated_per_s == pytest.approx(10.0)
    assert state.throughput.prompt_per_s == pytest.approx(2.0)
    assert state.throughput.cached_per_s == pytest.approx(3.0)
    state.advance(at(2000 + 1000 * state.throughput.token_window_s))
    assert state.throughput.generated_per_s == 0


def test_goodput_knows_which_objective_failed() -> None:
    state = SessionState(Slo(ttft_ms=50, tpot_ms=15))
    for request, first_ms, last_ms in ((1, 40, 50), (2, 60, 70), (3, 40, 60)):
        first = 2 * request
        for event in (
            queued(0, request),
            RequestScheduled(at(0), request, 0),
            step(first, 0, first_ms, (request, 10, 1)),
            RequestFirstToken(at(first_ms), request),
            step(first + 1, first_ms, last_ms, (request, 0, 1)),
            RequestFinished(at(last_ms), request, "stop", 2),
        ):
            state.apply(event)
    assert state.throughput.missed == {"ttft": 1, "tpot": 1}
    assert (state.throughput.good, state.throughput.finished) == (1, 3)
    assert state.throughput.good_share == pytest.approx(1 / 3)


def test_unknown_is_none_not_zero() -> None:
    state = SessionState()
    assert state.throughput.generated_per_s is None
    assert state.throughput.good_share is None
    assert state.joules_per_token is None
    assert state.memory.parts() == []
    assert state.memory.other_bytes is None
    assert state.gpus.absent is None
    assert state.steps.last is None
    assert all(window.quantiles() is None for window in state.latency.windows.values())


@given(st.lists(st.sampled_from([(1, 0), (1, 1), (1, 2), (1, 3), (2, 1), (9, 1)]), max_size=60))
def test_gaps_run_by_run_are_the_gaps_token_by_token(told: list[tuple[int, int]]) -> None:
    state = folded(queued(0, 1), RequestScheduled(at(1), 1, 0))
    number = 0
    for i, (stride, tokens) in enumerate(told):  # a stride above 1 is steps that were lost
        number += stride
        state.apply(step(number, 10 * i, 10 * i + 7 + i * i % 5, (1, 0, tokens)))
    view = state.requests.live[1]
    slow: list[int] = []
    for (_, before, _), (_, end_ns, k) in pairwise(view._chunks()):
        slow += [(end_ns - before) // k] * k
    assert view.itl_ns == slow
