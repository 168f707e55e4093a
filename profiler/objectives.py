"""Service level objectives by name: what others measure a chat or a benchmark by."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from profiler.conditions import Condition, parse_conditions
from profiler.errors import ConditionError
from profiler.folds.slo import Slo

# TTFT and TPOT in ms, both at p99.
# Source: MLPerf Inference rules, Server and Interactive scenarios.
_MLPERF: Final = {
    "llama2-70b": (2000, 200),
    "llama2-70b-interactive": (450, 40),
    "llama3.1-8b": (2000, 100),
    "llama3.1-8b-interactive": (500, 30),
    "llama3.1-405b": (6000, 175),
    "llama3.1-405b-interactive": (4500, 80),
    "mixtral-8x7b": (2000, 200),
    "deepseek-r1": (2000, 80),
    "deepseek-r1-interactive": (1500, 15),
    "gpt-oss-120b": (3000, 80),
    "gpt-oss-120b-interactive": (2000, 15),
}
# TTFT and ITL in ms, both at p99. Source: GuideLLM's documentation, SLO examples.
_GUIDELLM: Final = {"chat": (200, 50), "rag": (300, 100), "code": (500, 150)}

PRESETS: Final[dict[str, str]] = {
    f"mlperf-{name}": f"ttft_p99<={ttft}ms,tpot_p99<={tpot}ms"
    for name, (ttft, tpot) in _MLPERF.items()
} | {
    f"guidellm-{name}": f"ttft_p99<={ttft}ms,itl_p99<={itl}ms"
    for name, (ttft, itl) in _GUIDELLM.items()
}


def parse_objectives(text: str) -> tuple[Condition, ...]:
    """The conditions in `text`, or those of the preset it names. Raises: ConditionError."""
    name = text.strip()
    if name in PRESETS:
        return parse_conditions(PRESETS[name])
    if not set(name) & set("<>≤≥"):
        near = get_close_matches(name, PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"presets: {', '.join(PRESETS)}"
        raise ConditionError(f"{name!r} is no preset and no condition", hint)
    return parse_conditions(name)


def written(objectives: tuple[Condition, ...]) -> str:
    """As `parse_objectives` reads them."""
    return ",".join(map(str, objectives))


def request_bounds(objectives: tuple[Condition, ...]) -> Slo:
    """What a single request must meet to be good: the bounds on latencies that it has one of.

    An objective per token (ITL) bounds the request's mean, TPOT. Of two bounds on one latency the
    looser holds: half of all requests may miss one on p50.
    """
    bounds: dict[str, float] = {}
    for condition in objectives:
        name = condition.metric.rpartition("_")[0].replace("itl", "tpot")
        if condition.op.startswith("<") and name in ("ttft", "tpot", "e2el"):
            bounds[name] = max(condition.bound, bounds.get(name, condition.bound))
    return Slo(bounds.get("ttft"), bounds.get("tpot"), bounds.get("e2el"))
