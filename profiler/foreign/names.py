"""What the servers people run call the same things: one description an engine.

Source: the engines' own metrics modules and pages; a name that was renamed stands behind the new
one. What an engine does not expose is absent here, and `lacks` says why and what would help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

How = Literal["sum", "max", "mean"]


@dataclass(frozen=True, slots=True)
class Metric:
    """The first of `names` that a page has, over all its label sets taken together as `how` says;
    `where` are labels that a sample must have. `scale` turns its unit into ours."""

    names: tuple[str, ...]
    how: How = "sum"
    scale: float = 1.0
    where: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """`prefix` is what its names begin with. Gauges: running, waiting, kv_usage (0 to 1),
    kv_tokens and kv_blocks (the cache's capacity), prefix_hit_rate. Counters: prompt_tokens,
    generation_tokens, prefix_queries and prefix_hits (tokens), preemptions, finished (requests).
    Histograms, in seconds: ttft, itl, e2el, queue, prefill, decode.

    `marks` tells what a value of this engine means where that differs from its name, `lacks` why
    it never tells one, and `needs` what it must be started with to tell one."""

    name: str
    prefix: str
    gauges: dict[str, Metric]
    counters: dict[str, Metric]
    histograms: dict[str, Metric]
    model_labels: tuple[str, ...] = ("model_name", "model")
    marks: dict[str, str] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)


def _named(prefix: str, how: How = "sum", /, **names: str) -> dict[str, Metric]:
    """Spaces part a name from its older ones."""
    return {
        key: Metric(tuple(prefix + name for name in alike.split()), how)
        for key, alike in names.items()
    }


_VLLM_COUNTERS: Final = {
    "prompt_tokens": "prompt_tokens_total",
    "generation_tokens": "generation_tokens_total",
    "prefix_queries": "prefix_cache_queries_total gpu_prefix_cache_queries_total",
    "prefix_hits": "prefix_cache_hits_total gpu_prefix_cache_hits_total",
    "preemptions": "num_preemptions_total",
    "finished": "request_success_total",
}
_VLLM_HISTOGRAMS: Final = {
    "ttft": "time_to_first_token_seconds",
    "itl": "inter_token_latency_seconds time_per_output_token_seconds",
    "e2el": "e2e_request_latency_seconds",
    "queue": "request_queue_time_seconds",
    "prefill": "request_prefill_time_seconds",
    "decode": "request_decode_time_seconds",
}


def _vllm_like(name: str, prefix: str) -> Engine:
    gauges = _named(prefix, running="num_requests_running", waiting="num_requests_waiting")
    gauges |= _named(prefix, "mean", kv_usage="kv_cache_usage_perc gpu_cache_usage_perc")
    gauges |= _named(prefix, "mean", prefix_hit_rate="gpu_prefix_cache_hit_rate")
    return Engine(
        name,
        prefix,
        gauges,
        _named(prefix, "sum", **_VLLM_COUNTERS),
        _named(prefix, "sum", **_VLLM_HISTOGRAMS),
        marks={"kv_usage": "pages in use, without cached ones"},
    )


VLLM: Final = _vllm_like("vLLM", "vllm:")
SGLANG: Final = Engine(
    "SGLang",
    "sglang:",
    _named("sglang:", running="num_running_reqs", waiting="num_queue_reqs")
    | _named("sglang:", "max", kv_usage="full_token_usage token_usage")
    | _named("sglang:", kv_tokens="max_total_num_tokens")
    | _named("sglang:", "mean", prefix_hit_rate="cache_hit_rate"),
    {
        "prompt_tokens": Metric(("sglang:prompt_tokens_total",)),
        "generation_tokens": Metric(("sglang:realtime_tokens_total",), where=(("mode", "decode"),)),
        "generation_tokens_at_end": Metric(("sglang:generation_tokens_total",)),
        "preemptions": Metric(("sglang:num_retracted_requests_total",)),
        "finished": Metric(("sglang:num_requests_total",)),
    },
    _named(
        "sglang:",
        ttft="time_to_first_token_seconds",
        itl="inter_token_latency_seconds time_per_output_token_seconds",
        e2el="e2e_request_latency_seconds",
        queue="queue_time_seconds",
    ),
    marks={
        "running": "renewed every 40 decode steps",
        "kv_usage": "renewed every 40 decode steps",
        "prompt_tokens": "counted when a request ends",
        "generation_tokens_at_end": "counted when a request ends",
        "prefix_hit_rate": "of the newest prefill batch",
    },
)
LLAMACPP: Final = Engine(
    "llama.cpp",
    "llamacpp:",
    _named("llamacpp:", running="requests_processing", waiting="requests_deferred"),
    _named(
        "llamacpp:",
        prompt_tokens="prompt_tokens_total",
        generation_tokens="tokens_predicted_total",
        generation_s="tokens_predicted_seconds_total",
        prefix_hits="prompt_tokens_cached_total",
    ),
    {},
    lacks={
        "ttft": "llama.cpp's metrics have no latencies",
        "kv_usage": "llama.cpp's metrics have no KV usage any more",
        "preemptions": "llama.cpp does not preempt",
    },
)
TGI: Final = Engine(
    "TGI",
    "tgi_",
    _named("tgi_", running="batch_current_size", waiting="queue_size"),
    _named(
        "tgi_",
        prompt_tokens="request_input_length_sum",
        generation_tokens="request_generated_tokens_sum",
        finished="request_success_total request_success",
    ),
    _named("tgi_", e2el="request_duration", queue="request_queue_duration"),
    marks={
        "prompt_tokens": "counted when a request ends",
        "generation_tokens": "counted when a request ends",
    },
    lacks={
        "ttft": "TGI's metrics have no time to first token",
        "itl": "TGI tells a mean per token that includes the prefill",
        "kv_usage": "TGI's metrics tell reserved tokens, not used ones",
        "preemptions": "TGI does not preempt",
    },
)
TRTLLM: Final = Engine(
    "TensorRT-LLM",
    "trtllm_",
    _named("trtllm_", running="num_requests_running", waiting="num_requests_waiting")
    | _named("trtllm_", "mean", kv_usage="kv_cache_utilization")
    | _named("trtllm_", "mean", prefix_hit_rate="kv_cache_hit_rate"),
    _named(
        "trtllm_",
        prompt_tokens="prompt_tokens_total",
        generation_tokens="generation_tokens_total",
        finished="request_success_total num_requests_completed_total",
    ),
    _named(
        "trtllm_",
        ttft="time_to_first_token_seconds",
        itl="time_per_output_token_seconds",
        e2el="e2e_request_latency_seconds",
        queue="request_queue_time_seconds",
    ),
    needs=dict.fromkeys(
        ("ttft", "itl", "e2el", "queue"), "set return_perf_metrics: true in its configuration"
    )
    | dict.fromkeys(
        ("running", "waiting", "kv_usage"), "set enable_iter_perf_stats: true in its configuration"
    ),
)
LMDEPLOY: Final = Engine(
    "LMDeploy",
    "lmdeploy:",
    _named("lmdeploy:", running="num_requests_running", waiting="num_requests_waiting")
    | _named("lmdeploy:", "mean", kv_usage="gpu_cache_usage_perc")
    | _named("lmdeploy:", "mean", prefix_hit_rate="prefix_cache_hit_rate"),
    _named(
        "lmdeploy:",
        prompt_tokens="prompt_tokens_total",
        generation_tokens="generation_tokens_total",
        finished="request_success_total",
    ),
    _named(
        "lmdeploy:",
        ttft="time_to_first_token_seconds",
        itl="time_per_output_token_seconds iter_token_latency",
        e2el="e2e_request_latency_seconds",
        queue="request_queue_time_seconds",
    ),
)
DYNAMO: Final = Engine(
    "Dynamo",
    "dynamo_frontend_",
    _named("dynamo_frontend_", running="inflight_requests", waiting="queued_requests"),
    _named(
        "dynamo_frontend_",
        prompt_tokens="input_sequence_tokens_sum",
        generation_tokens="output_tokens_total",
        finished="requests_total",
    ),
    _named(
        "dynamo_frontend_",
        ttft="time_to_first_token_seconds",
        itl="inter_token_latency_seconds",
        e2el="request_duration_seconds",
    ),
    marks={"waiting": "until the first token, prefill included"},
    lacks={"kv_usage": "Dynamo's workers tell it on their own port, DYN_SYSTEM_PORT"},
)
TRITON: Final = Engine(
    "Triton",
    "nv_",
    {
        "running": Metric(("nv_trt_llm_request_metrics",), where=(("request_type", "active"),)),
        "waiting": Metric(("nv_trt_llm_request_metrics",), where=(("request_type", "waiting"),)),
        "kv_usage": Metric(
            ("nv_trt_llm_kv_cache_block_metrics",),
            "mean",
            where=(("kv_cache_block_type", "fraction"),),
        ),
    },
    {"finished": Metric(("nv_inference_request_success",))},
    {"ttft": Metric(("nv_inference_first_response_histogram_ms",), scale=1e-3)},
    marks={"ttft": "first chunk of the answer"},
    lacks={
        "itl": "Triton's metrics have no time per token",
    },
    needs={
        "ttft": "start Triton with --metrics-config histogram_latencies=true",
        "running": "told by its TensorRT-LLM backend alone",
        "waiting": "told by its TensorRT-LLM backend alone",
        "kv_usage": "told by its TensorRT-LLM backend alone",
    },
)

# NIM 1.x exports vLLM's names bare: it is known by two of them together, so it comes last.
ENGINES: Final = (
    VLLM,
    SGLANG,
    LLAMACPP,
    TGI,
    TRTLLM,
    LMDEPLOY,
    DYNAMO,
    _vllm_like("Ray Serve", "ray_vllm_"),
    TRITON,
)
NIM: Final = _vllm_like("NIM", "")
# A server of ours speaks vLLM's names; it is known by its hello.
LLMTOP: Final = _vllm_like("llmtop", "vllm:")
# These two tell JSON, which profiler.foreign.documents reads.
_NO_METRICS: Final = "Ollama has no metrics: llmtop proxy measures each request"
OLLAMA: Final = Engine(
    "Ollama",
    "",
    {},
    {},
    {},
    lacks=dict.fromkeys(
        ("kv_usage", "prefix", "ttft", "itl", "e2el", "queue", "prefill", "decode"), _NO_METRICS
    ),
)
_LATENCIES_ELSEWHERE: Final = "on its page /prometheus/metrics, with return_perf_metrics: true"
TRTLLM_JSON: Final = Engine(
    "TensorRT-LLM JSON",
    "",
    {},
    {},
    {},
    marks={
        "running": "in its newest iteration",
        "kv_usage": "in its newest iteration",
        "prefix_hit_rate": "of blocks since it started",
    },
    lacks=dict.fromkeys(
        ("ttft", "itl", "e2el", "queue", "prefill", "decode"), _LATENCIES_ELSEWHERE
    ),
)
BY_NAME: Final = {engine.name: engine for engine in (*ENGINES, NIM, LLMTOP, OLLAMA, TRTLLM_JSON)}
