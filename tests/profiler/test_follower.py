"""A follower folds all at once or bit by bit, and comes to the same state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from profiler.bus import Bus
from profiler.events import RequestFinished, RequestForwarded, RequestQueued
from profiler.follower import Follower

NUM_REQUESTS = 20


def told() -> Bus:
    bus = Bus()
    for number in range(1, NUM_REQUESTS + 1):
        t_ns = number * 300_000_000
        bus.publish(RequestQueued(t_ns, number, f"req-{number}", None, 4))
        bus.publish(RequestForwarded(t_ns + 1_000, number))
        bus.publish(RequestFinished(t_ns + 2_000, number, "stop", 1))
    return bus


def test_bit_by_bit_is_the_same_as_at_once() -> None:
    bus = told()
    slowly, at_once = Follower(bus), Follower(bus)
    num_bits = 1
    while slowly.fold(7):
        num_bits += 1
    assert num_bits == -(-bus.head // 7)
    assert slowly.keyframe() == at_once.keyframe()


def test_what_another_thread_folds_is_not_waited_for() -> None:
    bus = told()
    follower = Follower(bus)
    with ThreadPoolExecutor(1) as other, follower.read() as state:
        bus.publish(RequestQueued(9_000_000_000, NUM_REQUESTS + 1, "late", None, 4))
        assert not other.submit(follower.fold, 8).result(10)
        assert state.seq == bus.head - 1
    assert not follower.fold(8), "it was the last"
    with follower.read() as state:
        assert state.seq == bus.head
