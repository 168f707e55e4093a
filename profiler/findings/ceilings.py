"""The device does what it can: only less work for a token makes it faster."""

from __future__ import annotations

from typing import Final

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal

SPAN_S: Final = 5
LEAST_FLOOR_SHARE: Final = 0.7


class MemoryBound:
    """For most of 5 s the device had to be at work, by its measured ceilings, and reading was what
    took it longest. Nothing is wrong then: it says what would help."""

    name: Final = "memory_bound"
    level: Final = "info"
    open_s: Final = 3
    close_s: Final = 10

    def look(self, moment: Moment) -> Signal | None:
        return _signal(
            moment,
            True,
            "memory-bound: reading weights and pages alone takes {share:.0f} % of the time; fewer"
            " bits, or more requests in a step, give more tokens",
        )


class ComputeBound:
    """The same of its multiplications."""

    name: Final = "compute_bound"
    level: Final = "info"
    open_s: Final = 3
    close_s: Final = 10

    def look(self, moment: Moment) -> Signal | None:
        return _signal(
            moment,
            False,
            "compute-bound: multiplying alone takes {share:.0f} % of the time; only fewer tokens to"
            " compute, such as cached prefixes, leave more for the rest",
        )


def _signal(moment: Moment, by_reading: bool, text: str) -> Signal | None:
    rates, rows = moment.state.roofline.rates, moment.rows(SPAN_S)
    if rates is None or rates.read_share is None or rates.matmul_share is None:
        return None
    floors_s = [row.generated_tokens / row.possible_per_s for row in rows if row.possible_per_s]
    reads = rates.read_share >= rates.matmul_share
    if not floors_s or len(floors_s) < len(rows) or reads is not by_reading:
        return None
    share = sum(floors_s) / SPAN_S
    if share < LEAST_FLOOR_SHARE:
        return None
    return Signal(
        share,
        text.format(share=100 * share),
        {"floor_pct": 100 * share, "tokens": sum(row.generated_tokens for row in rows)},
        _sql(rows[0].second, rows[-1].second),
    )


def _sql(first: int, last: int) -> str:
    return (
        f"SELECT 100 * sum(generated_tokens / possible_per_s) / {SPAN_S} AS floor_pct, "
        f"sum(generated_tokens) AS tokens FROM step_1s WHERE second BETWEEN {first} AND {last}"
    )
