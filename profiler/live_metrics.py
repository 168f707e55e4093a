"""Metrics as they stand now, over the windows that a state keeps."""

from __future__ import annotations

from profiler.metrics import STATISTICS, of_quantiles
from profiler.state import SessionState


def live_value(state: SessionState, name: str) -> float | None:
    """The metric over the state's own windows: latencies 60 s, tokens 5 s, requests 60 s.

    None where there is nothing to judge yet, and for what only a client or a whole session knows.
    """
    latency, _, statistic = name.rpartition("_")
    if latency in state.latency.windows and statistic in STATISTICS:
        return of_quantiles(latency, state.latency.quantiles(latency), 1e6).get(name)
    flow = state.throughput
    good = flow.good_share
    values = {
        "tok_s": flow.generated_per_s,
        "prompt_tok_s": flow.prompt_per_s,
        "req_s": flow.requests_per_s,
        "good_pct": None if good is None else 100 * good,
    }
    return values.get(name)
