"""Metrics as they stand now, over the windows that a state keeps."""

from __future__ import annotations

from math import ceil, floor

from profiler.conditions import Condition
from profiler.folds.slo import Slo
from profiler.goodness import goodness_of
from profiler.metrics import STATISTICS, of_quantiles
from profiler.state import SessionState


def live_value(state: SessionState, name: str, slo: Slo | None = None) -> float | None:
    """The metric over the state's own windows: latencies 60 s, tokens 5 s, requests 60 s. Requests
    are good by `slo`, without it by what the session was told at its start.

    None where there is nothing to judge yet, and for what only a client or a whole session knows.
    """
    latency, _, statistic = name.rpartition("_")
    if latency in state.latency.windows and statistic in STATISTICS:
        return of_quantiles(latency, state.latency.quantiles(latency), 1e6).get(name)
    flow = state.throughput
    good = flow.good_share if slo in (None, flow.slo) else goodness_of(state, slo).share
    values = {
        "tok_s": flow.generated_per_s,
        "prompt_tok_s": flow.prompt_per_s,
        "req_s": flow.requests_per_s,
        "good_pct": None if good is None else 100 * good,
    }
    return values.get(name)


def attainment(state: SessionState, objective: Condition) -> float | None:
    """The share of the newest 60 s of values that are as the objective says, 0 to 1: of requests,
    or of tokens for ITL. None without values, and for a rate, which is met or not."""
    window = state.latency.windows.get(objective.metric.rpartition("_")[0])
    if window is None:
        return None
    bound_ns = objective.bound * 1e6
    at_bound_too = objective.op in ("<=", ">")
    below = window.share_below(floor(bound_ns) + 1 if at_bound_too else ceil(bound_ns))
    return below if below is None or objective.op.startswith("<") else 1 - below
