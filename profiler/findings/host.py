"""The device waits for the host."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Final

from profiler.findings.moment import Moment, StepTime
from profiler.findings.rule import Signal

SPAN_S: Final = 5
LEAST_STEPS: Final = 20
LEAST_IDLE_SHARE: Final = 0.5


class HostBound:
    """With requests running all the time, the device computed for less than half of it: the rest
    is planning, launching, committing and the gaps between steps. Only where device time is
    measured, which a CPU's is not: there host and device are one."""

    name: Final = "host_bound"
    level: Final = "warning"
    open_s: Final = 3
    close_s: Final = 10

    def look(self, moment: Moment) -> Signal | None:
        steps = _newest(moment)
        if len(steps) <= LEAST_STEPS:
            return None
        before, counted = steps[0], steps[1:]
        device_ns = [s.device_ns for s in counted if s.device_ns is not None]
        busy = all(s.num_running for s in steps) and _follow_on(steps)
        if not busy or len(device_ns) < len(counted):
            return None
        wall_ns = counted[-1].end_ns - before.end_ns
        idle_share = 1 - sum(device_ns) / wall_ns
        if idle_share < LEAST_IDLE_SHARE:
            return None
        step_ms, device_ms = (ns / len(counted) / 1e6 for ns in (wall_ns, sum(device_ns)))
        return Signal(
            idle_share,
            f"host-bound: the device waits {100 * idle_share:.0f} % of the time, a step takes "
            f"{step_ms:.2f} ms and the device {device_ms:.2f} ms of it",
            {"idle_pct": 100 * idle_share, "step_ms": step_ms, "device_ms": device_ms},
            _sql(before.step, counted[-1].step),
            step=counted[-1].step,
        )


def _newest(moment: Moment) -> list[StepTime]:
    first = moment.state.second - SPAN_S
    return list(takewhile(lambda s: s.second >= first, reversed(moment.steps)))[::-1]


def _follow_on(steps: Sequence[StepTime]) -> bool:
    return all(a.step + 1 == b.step for a, b in pairwise(steps))


def _sql(before: int, last: int) -> str:
    wall = f"(max(end_ns) - (SELECT end_ns FROM step WHERE step = {before}))"
    return (
        f"SELECT 100 * (1 - sum(device_ns) * 1.0 / {wall}) AS idle_pct, "
        f"{wall} / 1e6 / count(*) AS step_ms, avg(device_ns) / 1e6 AS device_ms "
        f"FROM step WHERE step BETWEEN {before + 1} AND {last}"
    )
