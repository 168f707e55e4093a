"""Pages of real servers, and pages as they break, read in our names."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.events import MetricsSample
from profiler.foreign.names import BY_NAME, LLAMACPP, SGLANG, VLLM
from profiler.foreign.reading import engine_of, read

PAGES = Path(__file__).parents[2] / "data" / "metrics"


def page(name: str) -> str:
    return (PAGES / f"{name}.prom").read_text()


def sample(name: str) -> MetricsSample:
    text = page(name)
    engine = engine_of(text)
    assert engine is not None
    return read(text, engine, 1)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("vllm", "vLLM"),
        ("vllm_counters", "vLLM"),
        ("vllm_legacy", "vLLM"),
        ("sglang_legacy", "SGLang"),
        ("llamacpp", "llama.cpp"),
        ("lmdeploy", "LMDeploy"),
        ("triton", "Triton"),
        ("dcgm", None),
    ],
)
def test_each_page_is_known_for_whose_it_is(name: str, engine: str | None) -> None:
    found = engine_of(page(name))
    assert (found and found.name) == engine


def test_nim_1_is_known_by_two_bare_names() -> None:
    bare = 'num_requests_running{model_name="m"} 3\ngpu_cache_usage_perc{model_name="m"} 0.5\n'
    engine = engine_of(bare)
    assert engine is not None and engine.name == "NIM"
    assert read(bare, engine, 1).gauges == {"running": 3, "kv_usage": 0.5}
    assert engine_of("num_requests_running 3\n") is None


@pytest.mark.parametrize(("name", "share"), [("vllm", 0.47), ("vllm_counters", 0.70)])
def test_vllm_s_prefix_hits(name: str, share: float) -> None:
    counters = sample(name).counters
    assert counters["prefix_hits"] / counters["prefix_queries"] == pytest.approx(share, abs=1e-4)


def test_vllm_s_capacity_is_the_label_and_not_pages_times_their_size() -> None:
    assert sample("vllm").gauges["kv_tokens"] == 141_994
    assert sample("vllm").model == "qwen3.8-27b"


def test_llama_cpp_s_prefix_hits() -> None:
    counters = sample("llamacpp").counters
    hits, computed = counters["prefix_hits"], counters["prompt_tokens"]
    assert hits / (hits + computed) == pytest.approx(0.6261, abs=1e-4)


def test_an_old_name_stands_in_for_a_new_one_and_never_beside_it() -> None:
    assert sample("vllm_legacy").gauges["kv_usage"] == pytest.approx(0.1)
    both = "vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.4\n"
    assert read(both, VLLM, 1).gauges["kv_usage"] == 0.4


def test_what_a_page_does_not_have_is_absent_and_not_zero() -> None:
    found = read("vllm:num_requests_running 0\n", VLLM, 1)
    assert found.gauges == {"running": 0}
    assert found.counters == {} and found.histograms == {}


def test_replicas_that_are_not_there_do_not_halve_the_usage() -> None:
    """Four engines print gauges, two of them have histograms."""
    lines = [f'vllm:kv_cache_usage_perc{{engine="{n}"}} {0.6 if n < 2 else 0.0}' for n in range(4)]
    lines += [
        f'vllm:time_to_first_token_seconds_bucket{{engine="{n}",le="+Inf"}} {n}' for n in range(2)
    ]
    assert read("\n".join(lines), VLLM, 1).gauges["kv_usage"] == pytest.approx(0.6)
    assert read("\n".join(lines[:4]), VLLM, 1).gauges["kv_usage"] == pytest.approx(0.3)


def test_ranks_of_one_model_say_the_same_and_replicas_add_up() -> None:
    text = "\n".join(
        f'sglang:num_running_reqs{{tp_rank="{tp}",dp_rank="{dp}",priority="{priority}"}} {value}'
        for tp in range(2)
        for dp, priority, value in ((0, "", 5), (0, "1", 3), (0, "2", 2), (1, "", 7))
    )
    assert read(text, SGLANG, 1).gauges["running"] == 12


def test_label_sets_of_a_histogram_are_one_in_whatever_order_they_come() -> None:
    text = """
sglang:time_to_first_token_seconds_sum{is_streaming="a"} 1.5
sglang:time_to_first_token_seconds_bucket{le="+Inf", is_streaming="a"} 3
sglang:time_to_first_token_seconds_bucket{is_streaming="a", le="0.1"} 2
sglang:time_to_first_token_seconds_bucket{le="0.1",is_streaming="b"} 1e0
sglang:time_to_first_token_seconds_bucket{le="+Inf",is_streaming="b"} 1
sglang:time_to_first_token_seconds_sum{is_streaming="b"} 0.5
"""
    found = read(text, SGLANG, 1).histograms["ttft"]
    assert (found.edges, found.counts, found.count, found.sum_s) == ((0.1,), (3,), 4, 2.0)


@pytest.mark.parametrize(
    "damage",
    [
        "vllm:num_requests_waiting{model_na",
        "}{}{ 1 2 3 4",
        'vllm:num_requests_waiting{engine="0" 5',
        "vllm:num_requests_waiting NaN",
        "vllm:num_requests_waiting +Inf",
        "vllm:num_requests_waiting",
        "vllm:num_requests_waiting 9223372036854775794",
        "\x00\x1b[31m�\udcff",
        " ",
    ],
)
def test_damage_costs_its_own_line_only(damage: str) -> None:
    text = f"vllm:num_requests_running 4\n{damage}\nvllm:num_preemptions_total 2\n{damage}"
    assert engine_of(text) is VLLM
    found = read(text, VLLM, 1)
    assert found.gauges == {"running": 4}
    assert found.counters == {"preemptions": 2}


def test_names_are_told_by_their_beginning_not_by_a_part_of_it() -> None:
    assert engine_of("my_vllm:num_requests_running 4\n") is None
    assert engine_of("llamacpp:requests_processing 1\n") is LLAMACPP


def test_no_engine_is_known_by_two_names() -> None:
    assert all(engine.name == name for name, engine in BY_NAME.items())
    for engine in BY_NAME.values():
        told = {*engine.gauges, *engine.counters, *engine.histograms}
        assert not told & engine.lacks.keys(), engine.name
        assert engine.needs.keys() <= told, engine.name
