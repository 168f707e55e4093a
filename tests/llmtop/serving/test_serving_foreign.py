"""A real server's metrics page, read as one of vLLM's: it has the same names."""

from __future__ import annotations

import time
from typing import Any

import pytest

from llmtop.sources.metrics import MetricsSource
from llmtop.sources.probing import Target, probe
from profiler.foreign.names import VLLM
from profiler.state import SessionState

REQUEST = {"prompt": "hello", "max_tokens": 20, "ignore_eos": True}


@pytest.fixture(scope="module")
def server(start_server: Any) -> Any:
    return start_server().wait_until_ready()


def until(source: MetricsSource, holds: Any, within_s: float = 30.0) -> SessionState:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        state = source.poll(time.monotonic_ns())
        if holds(state):
            return state
        time.sleep(0.02)
    raise AssertionError(f"it did not come true in time: {source.connection}")


def test_a_server_of_ours_is_watched_by_its_stream(server: Any) -> None:
    assert probe(server.url, None) is None
    assert probe(f"{server.url}/v1", None) is None


def test_its_page_tells_what_clients_got(server: Any) -> None:
    source = MetricsSource(Target(server.url, "/metrics", VLLM, "", ""))
    source.start()
    until(source, lambda state: state.foreign.last is not None)
    before = source.poll(time.monotonic_ns()).foreign.last
    for _ in range(3):
        assert server.client.post("/v1/completions", json=REQUEST).status_code == 200
    state = until(source, lambda state: (state.foreign.growth("finished") or 0) >= 3)
    assert source.connection.status == "connected"
    last = state.foreign.last
    assert last is not None and before is not None and last.model == "random:tiny"
    made = last.counters["generation_tokens"] - before.counters["generation_tokens"]
    assert made == 3 * REQUEST["max_tokens"]
    spread = state.foreign.spread("ttft")
    assert spread is not None and spread.n == 3 and 0 < spread.mean_s < 30
    assert last.gauges["running"] == 0 and 0 <= last.gauges["kv_usage"] <= 1
    assert state.session is None
    source.stop()


def test_a_server_that_ends_is_said_to_be_gone(start_server: Any) -> None:
    server = start_server().wait_until_ready()
    source = MetricsSource(Target(server.url, "/metrics", VLLM, "", ""))
    source.start()
    until(source, lambda state: state.foreign.last is not None)
    server.kill()
    until(source, lambda _: source.connection.status == "reconnecting")
    assert "no connection" in source.connection.detail
    state = until(source, lambda state: len(state.log.lines) > 1)
    assert "the metrics page is gone" in state.log.lines[-1].text
    source.stop()
