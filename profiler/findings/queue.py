"""More requests come than are served."""

from __future__ import annotations

from typing import Final

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal
from profiler.folds.seconds import SecondRow

SPAN_S: Final = 10
LEAST_GROWTH: Final = 5


class QueueGrowth:
    """The queue grew in 10 s, a quarter of it at least in each half, and more requests came than
    ended. A burst that waits its turn grows the queue once and is none."""

    name: Final = "queue_growth"
    level: Final = "warning"
    open_s: Final = 1
    close_s: Final = 10

    def look(self, moment: Moment) -> Signal | None:
        rows = moment.rows(SPAN_S)
        if not rows or not _grows(rows):
            return None
        # Those that came within the first second are in its own number of waiting ones.
        came = sum(row.queued for row in rows[1:])
        ended = sum(row.finished + row.failed for row in rows[1:])
        if came <= ended:
            return None
        span_s = rows[-1].second - rows[0].second
        waiting = rows[-1].waiting
        return Signal(
            waiting,
            f"the queue grows: {came / span_s:.1f} requests/s come, {ended / span_s:.1f} end; "
            f"{rows[0].waiting} waited {span_s} s before, {waiting} do now",
            {
                "came_per_s": came / span_s,
                "ended_per_s": ended / span_s,
                "waited": rows[0].waiting,
                "waiting": waiting,
            },
            f"SELECT sum(queued) / {span_s}.0 AS came_per_s, "
            f"sum(finished + failed) / {span_s}.0 AS ended_per_s, "
            f"(SELECT waiting FROM step_1s WHERE second = {rows[0].second}) AS waited, "
            f"(SELECT waiting FROM step_1s WHERE second = {rows[-1].second}) AS waiting "
            f"FROM step_1s WHERE second BETWEEN {rows[1].second} AND {rows[-1].second}",
        )


def _grows(rows: list[SecondRow]) -> bool:
    """By as much, and not all of it in one half of the time: a full closed loop grows no more."""
    first, middle, last = rows[0].waiting, rows[len(rows) // 2].waiting, rows[-1].waiting
    growth = last - first
    return growth >= LEAST_GROWTH and min(middle - first, last - middle) >= growth / 4
