"""Several servers as one source, over real HTTP: none waits for another, and none gets its key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmtop.once import look_once
from llmtop.peer import Address
from llmtop.sources import watched
from llmtop.sources.fleet import FleetSource
from profiler.foreign.fleet_snapshot import FleetSnapshot
from profiler.session.reader import SessionReader
from profiler.state import SessionState

Start = Callable[[dict[str, Any]], Any]
TEXT, HTML, JSON = "text/plain; version=0.0.4", "text/html", "application/json"


def vllm(running: int = 3) -> dict[str, Any]:
    count = iter(range(1, 10_000))

    def page() -> tuple[int, str, bytes]:
        lines = [
            f'vllm:num_requests_running{{model_name="qwen"}} {running}',
            f'vllm:generation_tokens_total{{model_name="qwen"}} {100 * next(count)}',
        ]
        return 200, TEXT, "\n".join(lines).encode()

    return {"/metrics": page, "/version": (200, JSON, b'{"version":"0.33.0"}')}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "PERIOD_S", 0.02)


@pytest.fixture
def fleet() -> Iterator[Callable[..., FleetSource]]:
    started: list[FleetSource] = []

    def start(*addresses: Address | str) -> FleetSource:
        source = FleetSource([Address(a) if isinstance(a, str) else a for a in addresses])
        source.start()
        started.append(source)
        return source

    yield start
    for source in started:
        source.stop()


def wait_for(source: FleetSource, test: Callable[[SessionState], bool]) -> SessionState:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = source.poll(time.monotonic_ns())
        if test(state):
            return state
        time.sleep(0.01)
    raise AssertionError([replica.told for replica in state.fleet.replicas.values()])


def statuses(state: SessionState) -> list[str]:
    return [replica.told.status for replica in state.fleet.replicas.values()]


def readings(state: SessionState, target: int) -> int:
    return len(state.fleet.replicas[target].foreign.samples)


def test_one_that_hangs_takes_nothing_from_the_others(peer: Start, fleet: Any) -> None:
    hung = threading.Event()

    def hang() -> tuple[int, str, bytes]:
        hung.wait(30)
        return 500, TEXT, b""

    source = fleet(peer({"/v1/llmtop/hello": hang}).url, peer(vllm()).url, peer(vllm(4)).url)
    state = wait_for(source, lambda s: readings(s, 2) > 5 and readings(s, 3) > 5)
    assert statuses(state) == ["asked", "up", "up"]
    assert source.connection.status == "connected"
    hung.set()


def test_one_that_dies_is_down_and_comes_back(peer: Start, fleet: Any) -> None:
    answers = vllm()
    first, second = peer(vllm()), peer(answers)
    source = fleet(first.url, second.url)
    wait_for(source, lambda s: statuses(s) == ["up", "up"])
    page = answers.pop("/metrics")
    state = wait_for(source, lambda s: statuses(s) == ["up", "down"])
    assert state.fleet.replicas[2].told.detail == "the server answered with status 404"
    seen = readings(state, 1)
    wait_for(source, lambda s: readings(s, 1) > seen)
    answers["/metrics"] = page
    state = wait_for(source, lambda s: statuses(s) == ["up", "up"])
    texts = [line.text for line in state.log.lines]
    assert any("status 404" in text for text in texts)


def test_each_has_one_state_with_its_reason(peer: Start, fleet: Any) -> None:
    gone = peer({})
    gone.leave()
    source = fleet(
        gone.url,
        peer({"/metrics": (200, HTML, b"<html>")}).url,
        peer({"/metrics": (401, TEXT, b"")}).url,
        peer({"/metrics": (302, TEXT, b"http://127.0.0.1:1/")}).url,
        peer({"/props": (200, JSON, b"{}")}).url,
        peer(vllm()).url,
    )
    state = wait_for(source, lambda s: "asked" not in statuses(s))
    assert statuses(state) == ["down"] * 5 + ["up"]
    reasons = [replica.told.detail for replica in state.fleet.replicas.values()]
    assert reasons[0] == "no connection"
    assert "no server of llmtop" in reasons[1]
    assert "who have its key (status 401)" in reasons[2]
    assert "no server of llmtop" in reasons[3]
    assert "start llama-server with --metrics" in reasons[4]


def test_no_server_sees_another_s_key(peer: Start, fleet: Any) -> None:
    other = peer(vllm())
    lure = (302, TEXT, f"{other.url}/metrics".encode())
    one, two, luring = peer(vllm()), peer(vllm()), peer({"/metrics": lure})
    source = fleet(
        Address(one.url, "one"), Address(two.url), Address(luring.url, "three"), Address(other.url)
    )
    wait_for(source, lambda s: readings(s, 1) > 2 and readings(s, 2) > 2 and readings(s, 4) > 2)
    assert {key for _, key in one.asked} == {"Bearer one"}
    assert {key for _, key in two.asked} == {key for _, key in other.asked} == {None}
    assert {key for _, key in luring.asked} == {"Bearer three"}


def test_a_server_of_ours_is_read_by_its_metrics_and_called_ours(peer: Start, fleet: Any) -> None:
    hello = (200, JSON, b'{"schema":1,"version":"0.9.1","model":"m"}')
    source = fleet(peer({**vllm(), "/v1/llmtop/hello": hello}).url, peer(vllm()).url)
    state = wait_for(source, lambda s: readings(s, 1) > 1 and readings(s, 2) > 1)
    told = state.fleet.replicas[1].told
    assert (told.engine, told.version) == ("llmtop", "0.9.1")
    last = state.fleet.replicas[1].foreign.last
    assert last is not None and last.engine == "llmtop" and last.gauges["running"] == 3


def test_another_server_at_the_same_address_is_met_anew(peer: Start, fleet: Any) -> None:
    answers = vllm()
    source = fleet(peer(answers).url, peer(vllm()).url)
    wait_for(source, lambda s: statuses(s) == ["up", "up"])
    answers["/metrics"] = (200, TEXT, b"llamacpp:requests_processing 2\n")
    state = wait_for(
        source, lambda s: s.fleet.replicas[1].told.engine == "llama.cpp" and statuses(s)[0] == "up"
    )
    wait_for(source, lambda s: s.fleet.replicas[1].foreign.gauge("running") == 2)
    assert state.fleet.replicas[1].foreign.gauge("kv_usage") is None


def test_nobody_there_is_said_and_tried_again(peer: Start, fleet: Any) -> None:
    gone = peer({})
    gone.leave()
    source = fleet(gone.url, gone.url + "/2")
    wait_for(source, lambda s: statuses(s) == ["down", "down"])
    assert source.connection.status == "connecting"
    assert source.connection.detail == (
        "none of 2 servers can be read: no connection; trying again"
    )


def test_a_script_gets_those_that_are_there(peer: Start) -> None:
    gone = peer({})
    gone.leave()
    found = look_once(FleetSource([Address(gone.url), Address(peer(vllm(5)).url)]))
    assert isinstance(found, FleetSnapshot)
    assert [target.status for target in found.targets] == ["down", "up"]
    assert found.totals.gauges["running"].value == 5
    assert found.targets[1].reading is not None
    assert found.targets[1].reading.per_s["generation_tokens"] > 0


def test_what_is_kept_is_replayed_as_it_was(
    peer: Start, fleet: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    source = fleet(peer(vllm()).url, peer({}).url)
    wait_for(source, lambda s: readings(s, 1) > 3 and statuses(s)[1] == "down")
    source.keep()
    live = wait_for(source, lambda s: readings(s, 1) > 8)
    source.stop()
    assert source.session_file is not None
    reader = SessionReader(source.session_file)
    replayed = reader.state_at(reader.end_ns)
    lasted_ns = reader.end_ns - reader.start_ns
    reader.close()
    assert lasted_ns < 60e9, "it begins when it began"
    assert statuses(replayed) == ["up", "down"]
    kept = list(replayed.fleet.replicas[1].foreign.samples)
    assert kept[:8] == list(live.fleet.replicas[1].foreign.samples)[:8]
