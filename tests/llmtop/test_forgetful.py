"""TensorRT-LLM's JSON at /metrics is emptied by whoever reads it: nobody of ours does unasked.

The fake answers as `trtllm-serve` does and counts who reads that page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.cli import main
from llmtop.errors import LlmtopError
from llmtop.peer import Address
from llmtop.sources.discovery import discover
from llmtop.sources.fleet import FleetSource
from llmtop.sources.gpufeed import GpuFeed
from llmtop.sources.metrics import MetricsSource
from llmtop.sources.page_client import PageClient
from llmtop.sources.probing import probe
from profiler.events import AnyEvent, GpuAbsent

Start = Callable[[dict[str, Any]], Any]
TEXT, JSON = "text/plain; version=0.0.4", "application/json"
VLLM = (Path(__file__).parents[1] / "data" / "metrics" / "vllm.prom").read_bytes()
OWNED_BY_VLLM = (200, JSON, b'{"data":[{"id":"qwen","owned_by":"vllm"}]}')
ITERATIONS = b'[{"iter": 8, "numActiveRequests": 3, "numQueuedRequests": 1}]'
PROMETHEUS = (200, TEXT, b"trtllm_num_requests_running 2\n")


def trtllm(**more: Any) -> dict[str, Any]:
    """What `trtllm-serve` answers: its models are always `tensorrt_llm`'s."""
    return {
        "/health": (200, JSON, b"null"),
        "/version": (200, JSON, b'{"version":"1.2.0"}'),
        "/v1/models": (200, JSON, b'{"data":[{"id":"llama","owned_by":"tensorrt_llm"}]}'),
        "/metrics": (200, JSON, ITERATIONS),
        **more,
    }


def num_drained(server: Any) -> int:
    return int(server.paths.count("/metrics"))


def test_attach_says_what_reading_it_costs_and_leaves_it(peer: Start) -> None:
    server = peer(trtllm())
    with pytest.raises(LlmtopError, match="forgets what was read") as caught:
        probe(server.url, None)
    assert "--drain-metrics" in (caught.value.hint or "") and num_drained(server) == 0


def test_attach_reads_it_when_told_to(peer: Start) -> None:
    server = peer(trtllm())
    target = probe(server.url, None, drain=True)
    assert target is not None
    assert (target.engine.name, target.version) == ("TensorRT-LLM JSON", "1.2.0")
    assert num_drained(server) == 1


def test_its_other_page_is_found_without_it(peer: Start) -> None:
    server = peer(trtllm(**{"/prometheus/metrics": PROMETHEUS}))
    target = probe(server.url, None)
    assert target is not None and target.path == "/prometheus/metrics"
    assert (target.engine.name, target.model, target.version) == ("TensorRT-LLM", "llama", "1.2.0")
    assert num_drained(server) == 0


def test_discovery_lists_it_with_why_it_is_not_shown(peer: Start) -> None:
    server = peer(trtllm())
    (found,) = discover([server.url])
    assert found.engine == "TensorRT-LLM" and "forgets what was read" in found.note
    assert num_drained(server) == 0


@pytest.mark.parametrize("page", [{}, {"/prometheus/metrics": PROMETHEUS}])
def test_doctor_knows_it_without_reading_it(
    page: dict[str, Any], peer: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    server = peer(trtllm(**page))
    assert main(["doctor", server.url, "--json"]) == (0 if page else 1)
    report = json.loads(capsys.readouterr().out)
    who = [report[name] for name in ("engine", "version", "model", "page")]
    assert who == ["TensorRT-LLM", "1.2.0", "llama", next(iter(page), "")]
    assert num_drained(server) == 0


def test_a_fleet_has_it_as_down_and_leaves_it(peer: Start) -> None:
    server = peer(trtllm())
    source = FleetSource([Address(server.url)])
    (watched,) = source._watched
    with PageClient() as client:
        for _ in range(3):
            watched.look(client)
    (replica,) = source.poll(time.monotonic_ns()).fleet.replicas.values()
    assert replica.told.status == "down" and "forgets what was read" in replica.told.detail
    assert num_drained(server) == 0


def test_one_that_takes_the_place_of_a_vllm_is_left_alone(peer: Start) -> None:
    """A port is the same server's no more once it was lost."""
    answers: dict[str, Any] = {"/metrics": (200, TEXT, VLLM), "/v1/models": OWNED_BY_VLLM}
    server = peer(answers)
    target = probe(server.url, None)
    assert target is not None
    source = MetricsSource(target)
    with PageClient() as client:
        source._read(client)
        assert source.connection.status == "connected"
        answers["/metrics"] = (503, TEXT, b"")
        source._read(client)
        before = num_drained(server)
        answers.update(trtllm())
        for _ in range(3):
            source._read(client)
    assert num_drained(server) == before
    assert "TensorRT-LLM is there now" in source.connection.detail


def test_one_that_is_named_as_an_exporter_is_left_alone(peer: Start) -> None:
    server, heard = peer(trtllm()), list[AnyEvent]()
    feed = GpuFeed(server.url, heard.append)
    with PageClient() as client:
        for _ in range(3):
            feed.read(client)
    assert [e.reason for e in heard if isinstance(e, GpuAbsent)] == [
        "TensorRT-LLM is there, and its /metrics forgets what was read"
    ]
    assert num_drained(server) == 0


def test_who_may_be_it_and_does_not_answer_is_not_read(peer: Start) -> None:
    """No answer from /v1/models is no leave to read the page that may forget."""

    def hang_up() -> tuple[int, str, bytes]:
        raise ConnectionError

    server = peer(trtllm(**{"/v1/models": hang_up}))
    server.server.handle_error = lambda *args: None
    assert probe(server.url, None) is None
    assert num_drained(server) == 0
