"""The ring gives back what a session file gives back, within its bounds of time and bytes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from profiler.bus import Bus
from profiler.events import AnyEvent, Log, Step
from profiler.follower import Follower
from profiler.session.reader import SessionReader
from profiler.session.ring import SEGMENT_NS, Ring
from profiler.session.tape import Tape
from profiler.state import SessionState, time_of

S = 1_000_000_000


def watched(ring: Ring, events: Iterable[AnyEvent]) -> SessionState:
    """The live state after all `events`, each of which the ring took."""
    state = SessionState()
    for seq, event in enumerate(events, state.seq + 1):
        state.apply(event, seq)
        ring.append(event, state)
    return state


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    """28 s in which requests are preempted."""
    made = workload(7, concurrency=10, num_pages=260, odd_share=0.1, step_ns=40_000_000)
    return list(made.events(700))


@pytest.fixture
def ring(events: list[AnyEvent]) -> Ring:
    ring = Ring()
    watched(ring, events)
    return ring


@pytest.fixture
def reader(events: list[AnyEvent], tmp_path: Path) -> Any:
    bus = Bus()
    tape = Tape(tmp_path / "s.db", bus, Follower(bus))
    for event in events:
        bus.publish(event)
    tape.finish()
    reader = SessionReader(tmp_path / "s.db")
    yield reader
    reader.close()


def test_any_moment_is_the_one_that_the_file_holds(ring: Ring, reader: SessionReader) -> None:
    assert ring.end_ns == reader.end_ns
    rng = random.Random(0)
    times = [rng.randint(ring.start_ns, ring.end_ns) for _ in range(20)]
    for t_ns in [ring.start_ns, ring.end_ns, *times]:
        assert ring.state_at(t_ns).keyframe() == reader.state_at(t_ns).keyframe()


def test_a_live_state_is_the_state_of_that_moment(events: list[AnyEvent]) -> None:
    """Wherever the next event is later: at one instant more may come."""
    ring, state, shown = Ring(), SessionState(), {}
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
        ring.append(event, state)
        if seq % 150 == 0 and time_of(events[seq]) > state.t_ns:
            shown[state.t_ns] = state.keyframe()
    assert len(shown) > 5 and state.requests.num_preemptions > 5
    for t_ns, keyframe in shown.items():
        assert ring.state_at(t_ns).keyframe() == keyframe


def test_events_come_back_from_any_number_on(ring: Ring, events: list[AnyEvent]) -> None:
    assert [event for _, event in ring.events()] == events[1:], "the first began the ring"
    for after in (1, 2, 700, len(events) - 1, len(events)):
        assert list(ring.events(after)) == list(enumerate(events, 1))[after:]
    batch = ring.read(500, 20)
    assert (batch.first_seq, batch.events, batch.lost) == (501, events[500:520], 0)
    assert ring.read(0, 5).lost == 1


def test_steps_are_found_by_number(ring: Ring, events: list[AnyEvent]) -> None:
    steps = {event.step: event for event in events if isinstance(event, Step)}
    for number in (min(steps) - 1, *list(steps)[::50], max(steps), max(steps) + 1):
        assert ring.step(number) == steps.get(number)


def test_markers_are_those_of_the_file(ring: Ring, reader: SessionReader) -> None:
    found = [marker for marker in reader.markers() if marker.t_ns >= ring.start_ns]
    assert {m.text.split(":")[0] for m in found} >= {"preempt", "load", "rejected"}
    assert ring.markers() == found


def test_only_the_newest_time_is_held(events: list[AnyEvent]) -> None:
    ring = Ring(keep_ns=10 * S)
    state = watched(ring, events)
    held_ns = state.t_ns - ring.start_ns
    assert 10 * S <= held_ns <= 10 * S + SEGMENT_NS + S
    assert all(marker.t_ns >= ring.start_ns for marker in ring.markers())
    assert ring.state_at(ring.end_ns).keyframe() == state.keyframe()


def test_what_somebody_looks_at_stays(events: list[AnyEvent]) -> None:
    ring = Ring(keep_ns=10 * S)
    ring.pinned = True
    state = watched(ring, events)
    assert state.t_ns - ring.start_ns > 20 * S
    ring.pinned = False
    later = Log(state.t_ns + 6 * S, "info", "test", "later")
    state.apply(later, state.seq + 1)
    ring.append(later, state)
    assert ring.end_ns - ring.start_ns <= 10 * S + 2 * SEGMENT_NS


def test_bytes_bound_it_even_then(events: list[AnyEvent]) -> None:
    whole = Ring()
    watched(whole, events)
    small, state = Ring(max_bytes=whole.num_bytes * 2 // 3), SessionState()
    small.pinned = True
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
        small.append(event, state)
        assert small.num_bytes <= whole.num_bytes * 2 // 3 or len(small.segments()) == 1
    assert whole.start_ns < small.start_ns < small.end_ns
    assert small.num_bytes == sum(segment.num_bytes for segment in small.segments())
    assert small.state_at(state.t_ns).keyframe() == state.keyframe()


def test_a_gap_begins_anew(events: list[AnyEvent]) -> None:
    ring, state = Ring(), SessionState()
    for seq, event in enumerate(events[:300], 1):
        state.apply(event, seq)
        ring.append(event, state)
    epoch = ring.epoch
    state.apply(events[400], 401)
    ring.append(events[400], state)
    assert ring.epoch == epoch + 1
    assert (ring.head, ring.start_ns, ring.markers()) == (401, state.t_ns, [])
    assert ring.state_at(0).keyframe() == state.keyframe()


def test_a_file_may_begin_with_what_a_ring_holds(
    ring: Ring, events: list[AnyEvent], tmp_path: Path
) -> None:
    follower = Follower(ring, state=SessionState.restore(ring.segments()[-1].keyframe))
    tape = Tape(tmp_path / "kept.db", ring, follower, ring.segments())
    state = ring.state_at(ring.end_ns)
    later = Log(state.t_ns + S, "warning", "test", "after the ring")
    state.apply(later, state.seq + 1)
    ring.append(later, state)
    tape.finish()
    reader = SessionReader(tmp_path / "kept.db")
    assert [event for _, event in reader.events()] == [*events[1:], later]
    assert reader.session == state.session and reader.clean_end
    assert (reader.start_ns, reader.end_ns) == (ring.start_ns, state.t_ns)
    for share in (0, 0.3, 0.7, 1):
        t_ns = ring.start_ns + round(share * (ring.end_ns - ring.start_ns))
        assert reader.state_at(t_ns).keyframe() == ring.state_at(t_ns).keyframe()
    times = [segment.t_ns for segment in ring.segments()]
    assert max(b - a for a, b in itertools.pairwise(times)) < SEGMENT_NS + S
    reader.close()
