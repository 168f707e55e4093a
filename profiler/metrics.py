"""The names of what can be judged: in `--slo`, `--fail-if`, `compare` and reports alike.

A latency's name is what is measured and a statistic, `ttft_p99`; docs/numbers.md defines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from profiler.folds.quantiles import Quantiles

STATISTICS: Final = ("mean", "p50", "p90", "p95", "p99", "max")
LATENCIES: Final = {
    "ttft": "time to the first token",
    "itl": "gap before a token, per token",
    "tpot": "mean time of a token after the first, per request",
    "e2el": "time to the last token",
    "queue": "queued to the first prefill step",
    "prefill": "first prefill step to the first token",
    "icl": "gap before a chunk, as a client sees it",
    "client_queue": "wanted to send to sent",
    "step": "engine step, planning to tokens known",
}

Values = Mapping[str, float | None]
"""Measured values by metric name; None, or no entry, is "not available", never zero."""


class Metric(NamedTuple):
    """`unit` is ms, tok/s, req/s, % or "" for a count."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    meaning: str


def _latency_metrics() -> list[Metric]:
    return [
        Metric(f"{name}_{statistic}", "ms", "lower", f"{statistic} of {meaning}")
        for name, meaning in LATENCIES.items()
        for statistic in STATISTICS
    ]


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        *_latency_metrics(),
        Metric("tok_s", "tok/s", "higher", "output tokens per second"),
        Metric("prompt_tok_s", "tok/s", "higher", "prompt tokens per second"),
        Metric("req_s", "req/s", "higher", "finished requests per second"),
        Metric("good_pct", "%", "higher", "finished requests that met every objective"),
        Metric("failed_pct", "%", "lower", "requests that failed, of those that ended"),
        Metric("cached_pct", "%", "higher", "prompt tokens out of the prefix cache"),
        Metric("kv_used_pct", "%", "lower", "pages of the KV cache in use while steps run"),
        Metric("preemptions", "", "lower", "requests that lost their pages"),
    )
}


LIVE: Final = frozenset(
    {
        f"{name}_{s}"
        for name in LATENCIES
        if name not in ("icl", "client_queue", "step")
        for s in STATISTICS
    }
    | {"tok_s", "prompt_tok_s", "req_s", "good_pct"}
)
"""What a state knows while a session lasts; the others are known after a whole run."""


def of_quantiles(
    name: str, found: Quantiles | None, ns_per_unit: float = 1.0
) -> dict[str, float | None]:
    """The metrics of one latency, divided by `ns_per_unit`. p99 is None below 100 values."""
    values = {} if found is None else {s: getattr(found, s) for s in STATISTICS}
    return {
        f"{name}_{statistic}": None if value is None else value / ns_per_unit
        for statistic, value in values.items()
    }
