"""A snapshot is the state's own numbers with their units, and None stays None."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from profiler.events import Phase
from profiler.snapshot import Snapshot, flattened, snapshot
from profiler.state import SessionState


@pytest.fixture(scope="module")
def state(workload: Any) -> SessionState:
    state = SessionState()
    for event in workload(7, concurrency=10, num_pages=260, step_ns=40_000_000).events(400):
        state.apply(event)
    return state


def test_the_numbers_are_the_states(state: SessionState) -> None:
    found = snapshot(state)
    requests = state.requests
    assert found.requests.running + found.requests.waiting == len(requests.live)
    assert found.requests.preemptions == requests.num_preemptions > 0
    for name in state.latency.windows:
        own, told = state.latency.quantiles(name), getattr(found.latency, f"{name}_ms")
        assert own is not None and told.n == own.n
        assert told.p95 == pytest.approx(own.p95 / 1e6)
        assert (told.p99 is None) == (own.p99 is None)
    assert found.rates.output_tokens_per_s == state.throughput.generated_per_s
    assert found.kv is not None
    assert found.kv.pages_used + found.kv.pages_cached + found.kv.pages_free == found.kv.pages
    (gpu,) = found.gpus
    assert gpu.mem_used_bytes == state.gpus.devices[0].last.mem_used_bytes


def test_what_is_not_known_is_null(state: SessionState) -> None:
    young = SessionState()
    young.apply(Phase(5_000_000_000, "load"))
    found = snapshot(young)
    assert found.phase == "load"
    assert found.model is found.wall_ns is found.kv is found.latency.ttft_ms is None
    assert found.rates.output_tokens_per_s is None
    assert found.requests.finished == 0


def test_a_restored_state_gives_the_same_snapshot(state: SessionState) -> None:
    assert snapshot(SessionState.restore(state.keyframe())) == snapshot(state)


def test_it_survives_json_and_is_flat_by_paths(state: SessionState) -> None:
    found = snapshot(state)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Snapshot) == found
    flat = dict(flattened(found))
    assert found.latency.ttft_ms is not None
    assert flat["latency.ttft_ms.p50"] == found.latency.ttft_ms.p50
    assert flat["gpus.0.name"] == found.gpus[0].name
