"""What answers at an address, by servers that answer as the real ones do, and as broken ones do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.errors import LlmtopError
from llmtop.sources.fetch_error import FetchError
from llmtop.sources.metrics import MetricsSource
from llmtop.sources.page_client import Limits, PageClient
from llmtop.sources.probing import probe
from profiler.errors import StreamError

PAGES = Path(__file__).parents[1] / "data" / "metrics"
VLLM = (PAGES / "vllm.prom").read_bytes()
TEXT, HTML, JSON = "text/plain; version=0.0.4", "text/html", "application/json"

ANY_MODEL = b'{"data":[{"id":"qwen","owned_by":"somebody"}]}'

Answers = dict[str, Any]
Start = Callable[[Answers], Any]


def test_a_vllm_is_found_with_its_model_and_version(peer: Start) -> None:
    vllm = peer(
        {
            "/metrics": (200, TEXT, VLLM),
            "/v1/models": (200, JSON, b'{"data":[{"id":"qwen","owned_by":"vllm"}]}'),
            "/version": (200, JSON, b'{"version":"0.33.0"}'),
        }
    )
    target = probe(f"{vllm.url}/v1/", None)
    assert target is not None
    assert target == (vllm.url, "/metrics", target.engine, "qwen", "0.33.0")
    assert target.engine.name == "vLLM"


@pytest.mark.parametrize("models", [b"", b"[]", b'{"data":[]}', b'{"data":3}', b"<html>"])
def test_what_it_is_called_may_be_unknown(peer: Start, models: bytes) -> None:
    vllm = peer({"/metrics": (200, TEXT, VLLM), "/v1/models": (200, JSON, models)})
    target = probe(vllm.url, None)
    assert target is not None and (target.model, target.version) == ("", "")


def test_json_of_who_does_not_tell_its_name_is_read_once_and_not_again(peer: Start) -> None:
    unnamed = peer({"/metrics": (200, JSON, b"[]")})
    with pytest.raises(LlmtopError, match="forgets what was read"):
        probe(unnamed.url, None)
    assert unnamed.paths.count("/metrics") == 1


ITERATION = b"""[{"iter": 8, "numActiveRequests": 3, "numQueuedRequests": 1, "gpuMemUsage": 5,
    "kvCacheStats": {"maxNumBlocks": 200, "usedNumBlocks": 50, "cacheHitRate": 0.25}},
    {"iter": 7, "numActiveRequests": 9}]"""


def test_json_that_forgets_is_read_when_that_was_asked_for(peer: Start) -> None:
    answers: Answers = {"/metrics": (200, JSON, ITERATION)}
    trt = peer(answers)
    target = probe(trt.url, None, drain=True)
    assert target is not None and target.engine.name == "TensorRT-LLM JSON"
    source = MetricsSource(target)
    with PageClient() as client:
        source._read(client)
        answers["/metrics"] = (200, JSON, b"[]")
        source._read(client)
        answers["/metrics"] = (200, JSON, b'{"detail": "no"}')
        source._read(client)
    state = source.poll(time.monotonic_ns())
    first, idle = state.foreign.samples
    assert first.gauges == {
        "running": 3, "waiting": 1, "kv_usage": 0.25, "kv_blocks": 200, "prefix_hit_rate": 0.25,
    }  # fmt: skip
    assert idle.gauges == {}, "no iteration tells nothing, and no zeros"
    assert source.connection.status == "reconnecting"


def test_ollama_tells_what_it_has_loaded_and_no_more(peer: Start) -> None:
    body = b'{"models": [{"name": "mistral:latest", "size": 5137025024, "size_vram": 4000000000}]}'
    answers = {
        "/api/ps": (200, JSON, body),
        "/api/version": (200, JSON, b'{"version": "0.9.1"}'),
    }
    ollama = peer(answers)
    target = probe(ollama.url, None)
    assert target is not None and (target.engine.name, target.version) == ("Ollama", "0.9.1")
    source = MetricsSource(target)
    with PageClient() as client:
        source._read(client)
    last = source.poll(time.monotonic_ns()).foreign.last
    assert last is not None and last.model == "mistral:latest"
    assert last.gauges == {
        "models_loaded": 1, "model_bytes": 5137025024, "vram_bytes": 4000000000,
    }  # fmt: skip
    assert last.counters == last.histograms == {}


@pytest.mark.parametrize(
    ("answers", "what", "hint"),
    [
        ({"/props": (200, JSON, b"{}")}, "llama.cpp shows no metrics", "--metrics"),
        ({"/server_info": (200, JSON, b"{}")}, "SGLang shows no metrics", "--enable-metrics"),
        ({"/metrics": (200, JSON, b"[]")}, "forgets what was read", "--drain-metrics"),
        ({"/v1/models": (200, JSON, ANY_MODEL)}, "this server shows no metrics", "llmtop proxy"),
        (
            {
                "/v1/models": (200, JSON, b'{"data":[{"id":"qwen","owned_by":"vllm"}]}'),
                "/metrics": (200, TEXT, b"python_info 1\n"),
                "/server_info": (200, JSON, b"{}"),
            },
            "vLLM shows no metrics",
            "--disable-log-stats",
        ),
        ({"/v1/models": (200, JSON, b"{}")}, "no server of llmtop", "attach --help"),
        (
            {"/metrics": (200, HTML, b"<html>vllm:x 1</html>")},
            "no server of llmtop",
            "attach --help",
        ),
        ({"/metrics": (200, TEXT, b"go_threads 8\n")}, "no server of llmtop", "attach --help"),
        ({}, "no server of llmtop", "attach --help"),
    ],
)
def test_what_cannot_be_shown_is_said_with_what_would_help(
    peer: Start, answers: Answers, what: str, hint: str
) -> None:
    with pytest.raises(LlmtopError, match=what) as caught:
        probe(peer(answers).url, None)
    assert hint in (caught.value.hint or "")


def test_who_does_not_answer_is_waited_for(peer: Start) -> None:
    gone = peer({})
    gone.leave()
    assert probe(gone.url, None) is None


def test_a_key_goes_to_its_server_and_no_redirect_takes_it_elsewhere(peer: Start) -> None:
    other = peer({"/metrics": (200, TEXT, VLLM)})
    lure = (302, TEXT, f"{other.url}/metrics".encode())
    first = peer({"/metrics": lure, "/v1/llmtop/hello": lure})
    with pytest.raises(LlmtopError):
        probe(first.url, "sesame")
    assert other.asked == []
    assert {key for _, key in first.asked} == {"Bearer sesame"}


def test_a_page_without_end_is_left(peer: Start) -> None:
    large = peer({"/metrics": (200, TEXT, b"x" * 5000)})
    with PageClient(limits=Limits(max_bytes=1000)) as client:
        with pytest.raises(StreamError, match="longer"):
            client.get(f"{large.url}/metrics")


def test_a_page_that_turns_into_another_is_no_reading(peer: Start) -> None:
    answers: Answers = {"/metrics": (200, TEXT, VLLM)}
    vllm = peer(answers)
    target = probe(vllm.url, None)
    assert target is not None
    source = MetricsSource(target)
    with PageClient() as client:
        source._read(client)
        assert source.connection.status == "connected"
        for status, kind, body in ((200, HTML, b"<html>"), (500, TEXT, VLLM), (401, TEXT, b"")):
            answers["/metrics"] = (status, kind, body)
            source._read(client)
            assert source.connection.status == "reconnecting", body
        answers["/metrics"] = (200, TEXT, VLLM)
        source._read(client)
        assert source.connection.status == "connected"


def test_a_page_that_never_comes_to_its_end_is_left(peer: Start) -> None:
    large = peer({"/metrics": (200, TEXT, b"x" * 5000)})
    with PageClient(limits=Limits(whole_s=-1.0)) as client:
        with pytest.raises(FetchError, match="no answer in time"):
            client.get(f"{large.url}/metrics")


def test_a_server_that_hides_all_but_its_metrics_is_found(peer: Start) -> None:
    """vLLM and SGLang guard what is below /v1 with their key, and not this page."""
    answers = {"/metrics": (200, TEXT, VLLM), "/v1/llmtop/hello": (401, JSON, b"{}")}
    target = probe(peer(answers).url, None)
    assert target is not None and target.engine.name == "vLLM"
    assert (
        probe(peer({"/v1/llmtop/hello": (401, JSON, b""), "/metrics": (401, TEXT, b"")}).url, None)
        is None
    )


def test_a_recording_begins_when_the_watching_does(
    peer: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    target = probe(peer({"/metrics": (200, TEXT, VLLM)}).url, None)
    assert target is not None
    source = MetricsSource(target)
    before_ns = time.monotonic_ns()
    source.start()
    source.poll(time.monotonic_ns())
    assert source.ring.start_ns >= before_ns
    assert source.keep().startswith("keeping the last 0.")
    source.stop()
