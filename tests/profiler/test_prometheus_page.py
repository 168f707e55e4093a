"""The metrics page: vLLM's names and labels as real servers send them, counters that only grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from profiler.events import (
    GpuSample,
    ProcessSample,
    Recording,
    RequestAborted,
    RequestRejected,
    SessionStart,
)
from profiler.folds.requests import MAX_DONE
from profiler.prometheus import CONTENT_TYPE, render
from profiler.state import SessionState

DATA = Path(__file__).parent / "data"
HISTOGRAMS = (
    "time_to_first_token_seconds", "inter_token_latency_seconds",
    "request_time_per_output_token_seconds", "e2e_request_latency_seconds",
    "request_queue_time_seconds", "request_inference_time_seconds", "request_prefill_time_seconds",
    "request_decode_time_seconds", "request_prompt_tokens", "request_generation_tokens",
    "request_params_max_tokens", "iteration_tokens_total",
)  # fmt: skip


def samples(page: bytes) -> list[Sample]:
    families = text_string_to_metric_families(page.decode())
    return [sample for family in families for sample in family.samples]


def values(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples(page)}


def folded(events: Any) -> SessionState:
    state = SessionState()
    for event in events:
        state.apply(event)
    return state


@pytest.fixture(scope="module")
def state(workload: Any) -> SessionState:
    return folded(workload(3, concurrency=9, num_pages=300, odd_share=0.1).events(1500))


def real_series() -> list[Sample]:
    """Of vLLM 0.28 and later, as people's test suites keep them."""
    text = "\n".join((DATA / f"vllm_{name}.prom").read_text() for name in ("gauges", "counters"))
    found = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return [s for s in found if not s.name.endswith("_created")]


def test_every_series_of_a_real_vllm_is_there_with_its_labels(state: SessionState) -> None:
    ours = {(s.name, frozenset(s.labels)) for s in samples(render(state))}
    names = {name for name, _ in ours}
    sample_only = {
        "_block_size_resolved", "kv_cache_max_concurrency", "sliding_window",
        "prefix_caching_hash_algo",
    }  # fmt: skip
    for sample in real_series():
        assert sample.name in names
        if sample.name != "vllm:cache_config_info":
            assert (sample.name, frozenset(sample.labels)) in ours, sample
        else:
            labels = set().union(*(labels for name, labels in ours if name == sample.name))
            assert set(sample.labels) - sample_only <= labels


def test_types_are_vllms(state: SessionState) -> None:
    types = {f.name: f.type for f in text_string_to_metric_families(render(state).decode())}
    assert types["vllm:num_requests_running"] == "gauge"
    assert types["vllm:generation_tokens"] == "counter"
    for name in HISTOGRAMS:
        assert types[f"vllm:{name}"] == "histogram"
    assert "version=0.0.4" in CONTENT_TYPE


def test_numbers_are_the_states(state: SessionState) -> None:
    found = values(render(state))
    labels = (("engine", "0"), ("model_name", "synthetic"))
    assert found["vllm:num_requests_running", labels] == state.requests.num_running
    assert found["vllm:num_requests_waiting", labels] == state.requests.num_waiting
    assert found["vllm:generation_tokens_total", labels] == state.totals.generated_tokens
    assert found["vllm:prefix_cache_hits_total", labels] == state.pages.hit_tokens > 0
    assert found["vllm:num_preemptions_total", labels] == state.requests.num_preemptions > 0
    share = found["vllm:kv_cache_usage_perc", labels]
    assert share == pytest.approx(state.pages.used / state.pages.num_pages) and 0 < share <= 1
    by_source = [
        value for (name, _), value in found.items() if name == "vllm:prompt_tokens_by_source_total"
    ]
    assert sum(by_source) == found["vllm:prompt_tokens_total", labels]


def test_histograms_are_cumulative_and_add_up(state: SessionState) -> None:
    page = samples(render(state))
    for name in HISTOGRAMS:
        counts = [s.value for s in page if s.name == f"vllm:{name}_bucket"]
        (count,) = [s.value for s in page if s.name == f"vllm:{name}_count"]
        (total,) = [s.value for s in page if s.name == f"vllm:{name}_sum"]
        assert counts == sorted(counts) and counts[-1] == count
        assert total > 0 or count == 0, name
    ttft = state.totals.ttft_s
    assert sum(ttft.counts) == sum(
        v.t_first_ns is not None for v in state.requests.live.values()
    ) + (sum(v.t_first_ns is not None for v in state.requests.done))


def test_latency_edges_go_below_ten_ms(state: SessionState) -> None:
    edges = {
        float(s.labels["le"])
        for s in samples(render(state))
        if s.name == "vllm:inter_token_latency_seconds_bucket"
    }
    assert {0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01} <= edges


def test_counters_only_grow_though_requests_are_forgotten(workload: Any) -> None:
    events = workload(5, concurrency=20, num_pages=2000, output_tokens=(2, 9), odd_share=0.05)
    state = SessionState()
    before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for number, event in enumerate(events.events(2000)):
        state.apply(event)
        if number % 2500 == 0:
            page = values(render(state))
            grown = ("_total", "_count", "_sum", "_bucket")
            for key, value in before.items():
                if key[0].endswith(grown):
                    assert page[key] >= value, key
            before = page
    ended = sum(v for (name, _), v in before.items() if name == "vllm:request_success_total")
    assert ended > MAX_DONE


def test_ends_carry_vllms_words() -> None:
    state = folded([SessionStart(1, 1, "0", "m", "cpu", 1, 4, 16, 1, 1, 64, 8, 64)])
    for reason in ("disconnect", "shutdown", "error: device lost"):
        state.apply(RequestAborted(2, 1, reason, 0))
    state.apply(RequestRejected(2, "queue_full", 5))
    found = {
        s.labels.get("finished_reason") or s.labels.get("reason"): s.value
        for s in samples(render(state))
        if s.name in ("vllm:request_success_total", "vllm:admission_rejections_total")
    }
    assert found == {"stop": 0, "length": 0, "abort": 2, "error": 1, "queue_full": 1}


def test_before_the_session_there_are_no_numbers_of_it() -> None:
    page = render(SessionState()).decode()
    assert "vllm:" not in page
    assert "llmtop_events_dropped_total 0.0" in page


def test_what_a_device_does_not_tell_is_left_out() -> None:
    state = folded(
        [
            GpuSample(1, 0, "NVIDIA H200", 5, 10, power_w=300.0, energy_mj=1000),
            GpuSample(2, 0, "NVIDIA H200", 6, 10, power_w=310.0, energy_mj=4000),
            ProcessSample(2, "core", 7, 150.0, 4096),
            Recording(2, 1234),
        ]
    )
    found = {s.name: s.value for s in samples(render(state))}
    assert found["llmtop_gpu_energy_joules_total"] == 3.0
    assert found["llmtop_gpu_power_watts"] == 310.0
    assert "llmtop_gpu_temperature_celsius" not in found
    assert found["llmtop_process_cpu_ratio"] == 1.5
    assert found["llmtop_recording_bytes"] == 1234


def test_a_hostile_model_name_stays_inside_its_label() -> None:
    start = SessionStart(1, 1, "0", 'a"b\n# x{y}', "cpu", 1, 4, 16, 1, 1, 64, 8, 64)
    labels = {s.labels.get("model_name") for s in samples(render(folded([start])))}
    assert labels <= {'a"b\n# x{y}', None}
