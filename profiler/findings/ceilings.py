"""The device does what it can: only less work for a token makes it faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal

SPAN_S: Final = 5
LEAST_FLOOR_SHARE: Final = 0.7


@dataclass(frozen=True, slots=True)
class AtCeiling:
    """For most of 5 s the device had to be at work, by its measured ceilings, and reading, or else
    multiplying, was what took it longest. Nothing is wrong then: it says what would help."""

    name: str
    by_reading: bool
    text: str
    level: str = "info"
    open_s: int = 3
    close_s: int = 10

    def look(self, moment: Moment) -> Signal | None:
        rates, rows = moment.state.roofline.rates, moment.rows(SPAN_S)
        if rates is None or rates.read_share is None or rates.matmul_share is None:
            return None
        floors_s = [row.generated_tokens / row.possible_per_s for row in rows if row.possible_per_s]
        reads = rates.read_share >= rates.matmul_share
        if not floors_s or len(floors_s) < len(rows) or reads is not self.by_reading:
            return None
        share = sum(floors_s) / SPAN_S
        if share < LEAST_FLOOR_SHARE:
            return None
        return Signal(
            share,
            self.text.format(share=100 * share),
            {"floor_pct": 100 * share, "tokens": sum(row.generated_tokens for row in rows)},
            _sql(rows[0].second, rows[-1].second),
        )


MEMORY_BOUND: Final = AtCeiling(
    "memory_bound",
    True,
    "memory-bound: reading weights and pages alone takes {share:.0f} % of the time; fewer bits, or"
    " more requests in a step, give more tokens",
)
COMPUTE_BOUND: Final = AtCeiling(
    "compute_bound",
    False,
    "compute-bound: multiplying alone takes {share:.0f} % of the time; only fewer tokens to"
    " compute, such as cached prefixes, leave more for the rest",
)


def _sql(first: int, last: int) -> str:
    return (
        f"SELECT 100 * sum(generated_tokens / possible_per_s) / {SPAN_S} AS floor_pct, "
        f"sum(generated_tokens) AS tokens FROM step_1s WHERE second BETWEEN {first} AND {last}"
    )
