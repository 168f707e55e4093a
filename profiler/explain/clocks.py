"""How much slower a GPU's clock made a step."""

from __future__ import annotations

from bisect import bisect_right
from statistics import median
from typing import Final, NamedTuple

from profiler.events import GpuSample
from profiler.folds.gpus import GpuHistory, Gpus

# Boost clocks wander by some percent without a cause.
_NOTABLE: Final = 0.05
_MAX_AGE_NS: Final = 1_000_000_000
_BUSY_PCT: Final = 50.0


class Slowdown(NamedTuple):
    """`share` of a computation's time that it would not have taken at the usual clock."""

    share: float
    reason: str


NO_SLOWDOWN: Final = Slowdown(0.0, "")


class Clocks:
    """Compares the SM clock at a time with the median of the kept samples under load in which
    nothing held it down."""

    def __init__(self, gpus: Gpus) -> None:
        self._histories = list(gpus.devices.values())
        self._usual_mhz = [_usual_mhz(history) for history in self._histories]

    def slowdown(self, t_ns: int) -> Slowdown:
        """Of the device that was slowed most; none where no sample of the last second tells."""
        found = [
            _slowdown(_sample_at(history, t_ns), usual_mhz)
            for history, usual_mhz in zip(self._histories, self._usual_mhz, strict=True)
        ]
        return max(found, default=NO_SLOWDOWN)


def _usual_mhz(history: GpuHistory) -> float | None:
    clocks = [
        sample.sm_mhz
        for sample in history.samples
        if sample.sm_mhz is not None and not sample.throttle and _is_busy(sample)
    ]
    return median(clocks) if clocks else None


def _is_busy(sample: GpuSample) -> bool:
    return sample.util_pct is None or sample.util_pct >= _BUSY_PCT


def _sample_at(history: GpuHistory, t_ns: int) -> GpuSample | None:
    at = bisect_right(history.samples, t_ns, key=lambda sample: sample.t_ns) - 1
    if at < 0 or t_ns - history.samples[at].t_ns > _MAX_AGE_NS:
        return None
    return history.samples[at]


def _slowdown(sample: GpuSample | None, usual_mhz: float | None) -> Slowdown:
    if sample is None or not sample.sm_mhz or not usual_mhz:
        return NO_SLOWDOWN
    share = 1.0 - sample.sm_mhz / usual_mhz
    return Slowdown(share, sample.throttle or "") if share > _NOTABLE else NO_SLOWDOWN
