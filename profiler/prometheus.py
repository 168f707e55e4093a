"""The state as Prometheus text: vLLM's names, so that what reads vLLM reads this, and our own.

`vllm:` series carry vLLM's labels (`model_name`, `engine`) and meanings; their latency edges
contain vLLM's and go below 10 ms. What vLLM has no name for is `llmtop_`. A series whose value is
not known is left out rather than sent as 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from profiler.events import KvPacking, SessionStart
from profiler.folds.gpus import GpuHistory
from profiler.folds.histogram import Histogram
from profiler.kv_held import kv_held
from profiler.state import SessionState

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_LABELS: Final = ("model_name", "engine")
_FINISHED_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "disconnect": "abort",
    "shutdown": "abort",
    "abort": "abort",
    "error": "error",
}


def render(state: SessionState) -> bytes:
    """The whole page, of `CONTENT_TYPE`."""
    return generate_latest(_StateCollector(state))


class _StateCollector(Collector):
    def __init__(self, state: SessionState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        if state.session is not None:
            yield from _Vllm(state, state.session).collect()
            yield from _engine(state)
        yield from _machine(state)
        yield from _observer(state)


class _Vllm:
    """vLLM's families for one session."""

    def __init__(self, state: SessionState, session: SessionStart) -> None:
        self._state = state
        self._session = session
        self._values = (session.model, "0")

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._values, value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._values, value)
        return family

    def _split(self, name: str, text: str, label: str, values: dict[str, int]) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=(*_LABELS, label))
        for key, value in values.items():
            family.add_metric((*self._values, key), value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=_LABELS)
        family.add_metric(self._values, _buckets(histogram), histogram.total)
        return family

    def _gauges(self) -> Iterator[Metric]:
        requests, pages = self._state.requests, self._state.pages
        waiting = requests.num_waiting
        yield self._gauge("num_requests_running", "Requests in the batch.", requests.num_running)
        yield self._gauge("num_requests_waiting", "Requests that wait for a place.", waiting)
        by_reason = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason",
            "Requests that wait, by reason.",
            labels=(*_LABELS, "reason"),
        )
        by_reason.add_metric((*self._values, "capacity"), waiting)
        by_reason.add_metric((*self._values, "deferred"), 0)
        yield by_reason
        if pages.num_pages:
            yield self._gauge(
                "kv_cache_usage_perc",
                "Share of KV pages that requests reference, 1 is all; cached pages do not count.",
                pages.used / pages.num_pages,
            )
        yield self._cache_config()

    def _cache_config(self) -> Metric:
        session, config = self._session, self._session.config
        labels = {
            "block_size": session.block_size,
            "cache_dtype": _cache_dtype(session),
            "enable_prefix_caching": config.get("enable_prefix_caching"),
            "engine": "0",
            "gpu_memory_utilization": config.get("gpu_memory_utilization"),
            "kv_cache_memory_bytes": session.kv_bytes,
            "kv_cache_size_tokens": session.num_pages * session.block_size,
            "num_gpu_blocks": session.num_pages,
            "num_gpu_blocks_override": config.get("num_gpu_blocks_override"),
        }
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "How the KV cache is laid out.", labels=tuple(labels)
        )
        family.add_metric([str(value) for value in labels.values()], 1.0)
        return family

    def _counters(self) -> Iterator[Metric]:
        requests, pages, totals = self._state.requests, self._state.pages, self._state.totals
        computed = totals.prompt_tokens - totals.cached_prompt_tokens
        yield self._counter(
            "prefix_cache_queries", "Prompt tokens looked up in the cache.", pages.query_tokens
        )
        yield self._counter(
            "prefix_cache_hits", "Prompt tokens found in the cache.", pages.hit_tokens
        )
        yield self._counter("num_preemptions", "Preemptions.", requests.num_preemptions)
        yield self._counter(
            "prompt_tokens", "Prompt tokens, counted at the first token.", totals.prompt_tokens
        )
        yield self._counter(
            "prompt_tokens_cached", "Those out of the cache.", totals.cached_prompt_tokens
        )
        yield self._split(
            "prompt_tokens_by_source",
            "Prompt tokens by where they came from.",
            "source",
            {"local_compute": computed, "local_cache_hit": totals.cached_prompt_tokens},
        )
        yield self._counter("generation_tokens", "Output tokens.", totals.generated_tokens)
        yield self._split(
            "request_success", "Requests that ended, by reason.", "finished_reason", self._ended()
        )
        if requests.reject_reasons:
            yield self._split(
                "admission_rejections", "Requests turned away.", "reason", requests.reject_reasons
            )

    def _ended(self) -> dict[str, int]:
        counts = dict.fromkeys(("stop", "length", "abort", "error"), 0)
        for reason, count in self._state.requests.finish_reasons.items():
            counts[_FINISHED_REASONS.get(reason, "error")] += count
        return counts

    def _histograms(self) -> Iterator[Metric]:
        totals = self._state.totals
        for name, text, histogram in (
            ("time_to_first_token_seconds", "Queued to first token.", totals.ttft_s),
            ("inter_token_latency_seconds", "Between tokens.", totals.itl_s),
            (
                "request_time_per_output_token_seconds",
                "Mean over a request's tokens after the first.",
                totals.tpot_s,
            ),
            ("e2e_request_latency_seconds", "Queued to last token.", totals.e2el_s),
            ("request_queue_time_seconds", "Queued to first prefill step.", totals.queue_s),
            ("request_inference_time_seconds", "First prefill to last token.", totals.inference_s),
            ("request_prefill_time_seconds", "First prefill to first token.", totals.prefill_s),
            ("request_decode_time_seconds", "First to last token.", totals.decode_s),
            ("request_prompt_tokens", "Prompt tokens of a request.", totals.request_prompt_tokens),
            (
                "request_generation_tokens",
                "Output tokens of a request.",
                totals.request_generation_tokens,
            ),
            (
                "request_params_max_tokens",
                "The max_tokens asked for.",
                totals.request_max_tokens,
            ),
            (
                "request_prefill_kv_computed_tokens",
                "Prompt tokens not out of the cache.",
                totals.request_computed_tokens,
            ),
            (
                "request_num_preemptions",
                "Preemptions of a request.",
                totals.request_preemptions,
            ),
            ("iteration_tokens_total", "Tokens of an engine step.", totals.step_tokens),
        ):
            yield self._histogram(name, text, histogram)


def _cache_dtype(session: SessionStart) -> str:
    """As asked for, "mixed" where formats differ by layer."""
    if session.packing is not None:
        return session.packing.name
    config = session.config
    return str(config.get("kv_cache_dtype", config.get("dtype", "auto")))


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    edges = [*map(str, histogram.edges), "+Inf"]
    below = 0
    buckets: list[tuple[str, float]] = []
    for edge, count in zip(edges, histogram.counts, strict=True):
        below += count
        buckets.append((edge, below))
    return buckets


def _engine(state: SessionState) -> Iterator[Metric]:
    totals, pages, throughput = state.totals, state.pages, state.throughput
    by_state = GaugeMetricFamily("llmtop_kv_pages", "KV pages by state.", labels=("state",))
    for name, value in (("used", pages.used), ("cached", pages.cached), ("free", pages.free)):
        by_state.add_metric((name,), value)
    yield by_state
    yield GaugeMetricFamily("llmtop_kv_pages_shared", "Pages held twice or more.", pages.shared)
    if state.session is not None and state.session.packing is not None:
        yield from _packing(state, state.session, state.session.packing)
    counters: tuple[tuple[str, str, float], ...] = (
        ("llmtop_kv_pages_evicted", "Cached pages given up.", pages.evictions),
        ("llmtop_prefill_tokens", "Prompt tokens computed, again too.", totals.prefill_tokens),
        ("llmtop_steps", "Engine steps.", state.steps.num_steps),
        ("llmtop_step_seconds", "Time within steps.", totals.step_ns / 1e9),
        ("llmtop_step_host_seconds", "The host's part of it.", totals.host_ns / 1e9),
        ("llmtop_requests_good", "Finished requests within every objective.", throughput.good),
    )
    for name, text, count in counters:
        yield CounterMetricFamily(name, text, count)
    missed = CounterMetricFamily(
        "llmtop_objectives_missed", "Finished requests beyond an objective.", labels=("objective",)
    )
    for name, misses in throughput.missed.items():
        missed.add_metric((name,), misses)
    yield missed
    memory = GaugeMetricFamily("llmtop_memory_bytes", "Device memory by part.", labels=("part",))
    for name, size in state.memory.parts():
        memory.add_metric((name,), size)
    yield memory


def _packing(state: SessionState, session: SessionStart, packing: KvPacking) -> Iterator[Metric]:
    forms = state.pages.forms
    by_form = GaugeMetricFamily(
        "llmtop_kv_page_forms", "KV pages by how they lie; hot ones are written.", labels=("form",)
    )
    for name, value in (("packed", forms.packed), ("hot", forms.hot), ("sink", forms.sinks)):
        by_form.add_metric((name,), value)
    yield by_form
    yield GaugeMetricFamily("llmtop_kv_wide_pages", "Wide pages in use.", forms.wide)
    yield GaugeMetricFamily("llmtop_kv_wide_pages_max", "All of them.", packing.num_wide_pages)
    text = "Pages packed since the start."
    yield CounterMetricFamily("llmtop_kv_pages_packed", text, state.totals.packed_pages)
    held = kv_held(session, state.pages)
    if held is not None:
        text = "Bits that pages in use take for each K or V element."
        yield GaugeMetricFamily("llmtop_kv_effective_bits", text, held.bits)


def _machine(state: SessionState) -> Iterator[Metric]:
    labels = ("gpu", "name")
    families = {
        name: GaugeMetricFamily(f"llmtop_gpu_{name}", text, labels=labels)
        for name, text in (
            ("memory_used_bytes", "Device memory in use."),
            ("utilization_ratio", "Share of time with a kernel running, 0 to 1."),
            ("power_watts", "Power draw."),
            ("temperature_celsius", "Core temperature."),
            ("sm_clock_hertz", "Clock of the multiprocessors."),
        )
    }
    energy = CounterMetricFamily(
        "llmtop_gpu_energy_joules", "Energy since the session's first reading.", labels=labels
    )
    for device, history in state.gpus.devices.items():
        values = (str(device), history.last.name)
        for name, value in _gpu_values(history).items():
            if value is not None:
                families[name].add_metric(values, value)
        if history.energy_j is not None:
            energy.add_metric(values, history.energy_j)
    yield from families.values()
    yield energy
    cpu = GaugeMetricFamily("llmtop_process_cpu_ratio", "1 is one core.", labels=("role",))
    rss = GaugeMetricFamily("llmtop_process_resident_bytes", "Resident memory.", labels=("role",))
    for role, sample in state.processes.items():
        cpu.add_metric((role,), sample.cpu_pct / 100)
        rss.add_metric((role,), sample.rss_bytes)
    yield cpu
    yield rss


def _gpu_values(history: GpuHistory) -> dict[str, float | None]:
    last = history.last
    return {
        "memory_used_bytes": last.mem_used_bytes,
        "utilization_ratio": None if last.util_pct is None else last.util_pct / 100,
        "power_watts": last.power_w,
        "temperature_celsius": last.temp_c,
        "sm_clock_hertz": None if last.sm_mhz is None else last.sm_mhz * 1e6,
    }


def _observer(state: SessionState) -> Iterator[Metric]:
    """What watching itself does."""
    yield CounterMetricFamily("llmtop_events_dropped", "Events lost on the way.", state.drops)
    if state.recording is not None:
        yield GaugeMetricFamily(
            "llmtop_recording_bytes", "Size of the session file.", state.recording.file_bytes
        )
    if state.session is not None:
        facts = {"version": state.session.tool_version, "device": state.session.device}
        yield InfoMetricFamily("llmtop_session", "The session that runs.", facts)
