"""Everything that one side of a comparison gives, by the name of the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiler.compare.run import Requests, Run
from profiler.compare.sample import MAX_UNITS, Ratio, Values, units_of
from profiler.compare.slices import Slices
from profiler.folds.slo import Slo
from profiler.metrics import of_quantiles

LATENCIES: Final = ("ttft", "itl", "tpot", "e2el", "queue", "prefill")
_BOUNDS: Final = ("ttft", "tpot", "e2el")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """Latencies and shares by requests, `step`, rates and KV use by slices of time.

    `num_requests` and `num_slices` are the units behind them.
    """

    latencies: dict[str, Values]
    shares: dict[str, Ratio]
    steps: Values | None
    rates: dict[str, Ratio]
    num_requests: int
    num_slices: int

    def value(self, name: str) -> float | None:
        """The metric of that name, None where there is none or p99 has too few values."""
        ratio = self.shares.get(name) or self.rates.get(name)
        if ratio is not None:
            return ratio.value
        latency = name.rpartition("_")[0]
        values = self.distribution(latency)
        return None if values is None else of_quantiles(latency, values.exact).get(name)

    def distribution(self, latency: str) -> Values | None:
        return self.steps if latency == "step" else self.latencies.get(latency)


def measure(run: Run, chosen: NDArray[np.int64] | None, slo: Slo | None) -> Measured:
    """Of the whole run, or with requests `chosen` (indices, in the order of the pairs) of those
    alone; what belongs to time and to no request is always the whole run's."""
    index = np.arange(len(run.requests)) if chosen is None else chosen
    slices = Slices(run)
    kv_used = slices.kv_used()
    rates = slices.rates() | ({} if kv_used is None else {"kv_used_pct": kv_used})
    return Measured(
        _latencies(run.requests, index),
        _shares(run.requests, index, slo, run.tells_steps),
        slices.step_ms(),
        rates,
        min(MAX_UNITS, len(index)),
        slices.count,
    )


def _latencies(requests: Requests, index: NDArray[np.int64]) -> dict[str, Values]:
    count = len(index)
    units = units_of(count)
    num_units = min(MAX_UNITS, count)
    found = {
        name: Values.of(requests.latency_ms(name)[index], units, num_units)
        for name in LATENCIES
        if name != "itl"
    }
    unit_of = np.full(len(requests), -1, dtype=np.int16)
    unit_of[index] = units
    gap_units = np.repeat(unit_of, requests.num_gaps)
    found["itl"] = Values.of(requests.gaps_us, gap_units, num_units, 1e3)
    return {name: values for name, values in found.items() if values is not None}


def _shares(
    requests: Requests, index: NDArray[np.int64], slo: Slo | None, tells_steps: bool
) -> dict[str, Ratio]:
    count = len(index)
    units = units_of(count)

    def summed(amounts: NDArray[np.generic]) -> Floats:
        chosen = np.asarray(amounts[index], dtype=np.float64)
        return np.bincount(units, chosen, min(MAX_UNITS, count)).astype(np.float64)

    ended = summed(np.ones(len(requests)))
    told = requests.cached_tokens >= 0
    cached = summed(requests.cached_tokens * told)
    shares = {
        "failed_pct": Ratio(summed(~requests.answered), ended, 100.0),
        "cached_pct": Ratio(cached, summed(requests.prompt_tokens * told), 100.0),
    }
    if tells_steps:
        shares["preemptions"] = Ratio(summed(requests.preemptions))
    if slo is not None:
        answered = summed(requests.answered)
        shares["good_pct"] = Ratio(summed(_good(requests, slo)), answered, 100.0)
    return shares


def _good(requests: Requests, slo: Slo) -> NDArray[np.bool_]:
    """(n,) of answered requests that missed no objective; what a request has not is not missed."""
    good = requests.answered.copy()
    for name in _BOUNDS:
        bound_ms = getattr(slo, f"{name}_ms")
        if bound_ms is not None:
            good &= ~(requests.latency_ms(name) > bound_ms)
    return good
