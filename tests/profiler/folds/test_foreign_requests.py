"""Requests of another server: seen from outside, in pieces of answers instead of steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.bus import Bus
from profiler.events import (
    AnyEvent,
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestQueued,
    SessionStart,
    TokenArrival,
    TokensReceived,
    decode_event,
    encode_event,
)
from profiler.follower import Follower
from profiler.session.reader import SessionReader
from profiler.session.tape import Tape
from profiler.state import SessionState

MS = 1_000_000
T0 = 1000 * 1000 * MS
START = SessionStart(
    T0, 1_760_000_000 * 1000 * MS, "0.1.0", "other", "", 0, 0, 0, 0, 0, 4096, 0, 0,
    upstream="http://127.0.0.1:9",
)  # fmt: skip


def arrivals(*rows: tuple[int, int, int]) -> tuple[TokenArrival, ...]:
    """Of (request, ms after the begin, tokens)."""
    return tuple(TokenArrival(request, T0 + ms * MS, tokens) for request, ms, tokens in rows)


def streamed() -> list[AnyEvent]:
    """Two tokens, then three in one piece, and one more that only the server's usage tells of."""
    return [
        START,
        RequestQueued(T0, 1, "cmpl-1", None, 16, 0, "t=0"),
        RequestForwarded(T0 + MS, 1),
        RequestFirstToken(T0 + 20 * MS, 1),
        TokensReceived(T0 + 90 * MS, arrivals((1, 20, 1), (1, 30, 1), (1, 60, 3))),
        RequestAnswered(T0 + 90 * MS, 1, 200, 999, T0 + 19 * MS, 12, 4, 6, 5),
        RequestFinished(T0 + 90 * MS, 1, "stop", 6),
    ]


def folded(events: list[AnyEvent]) -> SessionState:
    state = SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return state


def test_times_are_those_of_the_pieces() -> None:
    state = folded(streamed())
    view = state.requests.get(1)
    assert view is not None
    assert view.ttft_ns == 20 * MS
    assert view.itl_ns == [10 * MS, 10 * MS, 10 * MS, 10 * MS]
    assert view.e2el_ns == 60 * MS
    assert view.tpot_ns == 40 * MS / 5
    assert [(span.phase, span.t_ns) for span in view.spans] == [
        ("queued", T0),
        ("upstream", T0 + MS),
        ("decode", T0 + 20 * MS),
    ]
    itl = state.latency.quantiles("itl")
    assert itl is not None and (itl.n, itl.max) == (4, 10 * MS)


def test_what_nobody_tells_is_none_and_never_zero() -> None:
    state = folded(streamed()[:5])
    view = state.requests.get(1)
    assert view is not None
    assert view.num_prompt_tokens is view.cached_tokens is view.num_pages is None
    assert view.queue_ns is view.prefill_ns is None
    assert view.is_estimate and view.num_output_tokens == 5
    assert state.latency.quantiles("queue") is None


def test_the_servers_own_count_has_the_last_word() -> None:
    state = folded(streamed())
    view = state.requests.get(1)
    assert view is not None
    assert (view.num_prompt_tokens, view.cached_tokens, view.num_output_tokens) == (12, 4, 6)
    assert not view.is_estimate
    assert state.totals.generated_tokens == 6
    assert (state.totals.prompt_tokens, state.totals.cached_prompt_tokens) == (12, 4)
    assert sum(state.throughput.tally(s).generated_tokens for s in (1000,)) == 6


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    state = folded(
        [
            START,
            RequestQueued(T0, 1, "cmpl-1", None, None),
            RequestForwarded(T0 + MS, 1),
            TokensReceived(T0 + 50 * MS, arrivals((1, 50, 7))),
            RequestAnswered(T0 + 50 * MS, 1, 200, 400, T0 + 50 * MS, 3, None, 7, 7),
            RequestFinished(T0 + 50 * MS, 1, "length", 7),
        ]
    )
    view = state.requests.get(1)
    assert view is not None
    assert view.ttft_ns is view.tpot_ns is None and view.itl_ns == []
    assert view.e2el_ns == 50 * MS
    assert [span.phase for span in view.spans] == ["queued", "upstream"]


def test_a_refusal_counts_as_failed() -> None:
    state = folded(
        [
            START,
            RequestQueued(T0, 1, "", None, None),
            RequestForwarded(T0 + MS, 1),
            RequestAnswered(T0 + 2 * MS, 1, 429, 30, T0 + 2 * MS),
            RequestAborted(T0 + 2 * MS, 1, "error: status 429", 0),
        ]
    )
    assert state.requests.num_aborted == 1
    assert state.requests.finish_reasons == {"error": 1}
    assert state.totals.generated_tokens == 0


def test_live_attached_and_replayed_are_one(tmp_path: Path) -> None:
    bus = Bus()
    follower = Follower(bus)
    tape = Tape(tmp_path / "foreign.db", bus, follower)
    for event in streamed():
        bus.publish(decode_event(encode_event(event)))
        tape.flush()
    tape.finish()
    reader = SessionReader(tmp_path / "foreign.db")
    assert [event for _, event in reader.events()] == streamed()
    with follower.read() as live:
        assert reader.state_at(reader.end_ns).keyframe() == live.keyframe()
    rows = reader.query("SELECT num_prompt_tokens, num_output_tokens FROM request")
    assert list(rows) == [(12, 6)]
    reader.close()


@pytest.mark.parametrize("cut", range(1, len(streamed())))
def test_a_keyframe_anywhere_goes_on_as_if_never_left(cut: int) -> None:
    events = streamed()
    state = SessionState.restore(folded(events[:cut]).keyframe())
    for seq, event in enumerate(events[cut:], cut + 1):
        state.apply(event, seq)
    assert state.keyframe() == folded(events).keyframe()
