"""Clocks that are held down."""

from __future__ import annotations

from statistics import fmean
from typing import Final

from profiler.events import GpuSample
from profiler.findings.moment import Moment
from profiler.findings.rule import Signal

SPAN_NS: Final = 3_000_000_000
LEAST_SAMPLES: Final = 5
# Of the best clock seen: a few MHz less is how every card regulates.
LEAST_DROP: Final = 0.05
# Chosen by a person, so nothing that happens to the card.
_CHOSEN: Final = frozenset({"application clocks", "display clocks", "sync boost"})


class ClockThrottle:
    """For 3 s every sample of a device names a reason, and its clock is 5 % below the best of the
    last minute. Reasons are NVML's own."""

    name: Final = "clock_throttle"
    level: Final = "warning"
    open_s: Final = 1
    close_s: Final = 5

    def look(self, moment: Moment) -> Signal | None:
        devices = moment.state.gpus.devices.values()
        signals = [_of_device(list(d.samples), moment.state.t_ns) for d in devices]
        told = [signal for signal in signals if signal is not None]
        return max(told, key=lambda signal: signal.weight, default=None)


def _of_device(samples: list[GpuSample], now_ns: int) -> Signal | None:
    newest = [s for s in samples if s.t_ns > now_ns - SPAN_NS]
    reasons = [_reasons(s) for s in newest]
    clocks = [s.sm_mhz for s in newest if s.sm_mhz is not None]
    if len(newest) < LEAST_SAMPLES or not all(reasons) or len(clocks) < len(newest):
        return None
    best = max(s.sm_mhz for s in samples if s.sm_mhz is not None)
    mean = fmean(clocks)
    if mean > (1 - LEAST_DROP) * best:
        return None
    last = newest[-1]
    words = ", ".join(sorted(set().union(*reasons)))
    return Signal(
        1 - mean / best,
        f"GPU {last.device} is throttled ({words}): {mean:,.0f} MHz over {SPAN_NS // 10**9} s, "
        f"{best:,} MHz at best",
        {"mean_mhz": mean, "best_mhz": best, "samples": len(newest)},
        f"SELECT avg(sm_mhz) AS mean_mhz, (SELECT max(sm_mhz) FROM gpu_sample "
        f"WHERE device = {last.device} AND t_ns BETWEEN {samples[0].t_ns} AND {last.t_ns}) "
        "AS best_mhz, count(*) AS samples FROM gpu_sample WHERE throttle <> '' "
        f"AND device = {last.device} AND t_ns BETWEEN {newest[0].t_ns} AND {last.t_ns}",
    )


def _reasons(sample: GpuSample) -> set[str]:
    return set(filter(None, (sample.throttle or "").split(", "))) - _CHOSEN
