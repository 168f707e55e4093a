"""One metric of two runs, with what its difference comes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from profiler.compare.bootstrap import Floats, draw, interval, interval_pct
from profiler.compare.measured import LATENCIES, Measured
from profiler.compare.sample import LEAST_VALUES, MIN_UNITS, Ratio, Values
from profiler.compare.verdict import Verdict, verdict
from profiler.metrics import METRICS, STATISTICS

SEED: Final = 0
_JUDGED: Final = tuple(name for name in STATISTICS if name in LEAST_VALUES)

Draws = tuple[Floats, Floats]


class MetricRow(msgspec.Struct, frozen=True):
    """`change` is B's value less A's in `unit`, `change_pct` the same in percent of A's, None where
    A's is 0 and B's is not. `low` and `high` bound the change with 95 %, `low_pct` and `high_pct`
    that in percent of A's; None without enough to draw from.

    `n_a` and `n_b` count the values (of a rate the slices of time), `drawn` says what was drawn
    again: requests, pairs of requests, or slices of time ("time"); `units` how many of them hold a
    value, on the side that has fewer.
    """

    name: str
    unit: str
    better: Literal["lower", "higher"]
    a: float | None
    b: float | None
    change: float | None
    change_pct: float | None
    low: float | None
    high: float | None
    low_pct: float | None
    high_pct: float | None
    verdict: Verdict
    n_a: int
    n_b: int
    drawn: Literal["requests", "pairs", "time"]
    units: int

    @property
    def too_few(self) -> int:
        """Of units, or else of values, the number for which no interval is given."""
        return self.units if self.units < MIN_UNITS else min(self.n_a, self.n_b)


def metric_rows(a: Measured, b: Measured, paired: bool) -> list[MetricRow]:
    """Every metric that both runs have, in the order of the registry."""
    by_request = draw(a.num_requests, b.num_requests, paired, SEED)
    by_time = draw(a.num_slices, b.num_slices, False, SEED)
    kind: Literal["requests", "pairs"] = "pairs" if paired else "requests"
    rows: list[MetricRow] = []
    for latency in LATENCIES:
        first, second = a.latencies.get(latency), b.latencies.get(latency)
        if first is not None and second is not None:
            rows += _latency_rows(latency, first, second, by_request, kind)
    if a.steps is not None and b.steps is not None:
        rows += _latency_rows("step", a.steps, b.steps, by_time, "time")
    for name in a.shares.keys() & b.shares.keys():
        rows.append(_ratio_row(name, a.shares[name], b.shares[name], by_request, kind))
    for name in a.rates.keys() & b.rates.keys():
        rows.append(_ratio_row(name, a.rates[name], b.rates[name], by_time, "time"))
    order = list(METRICS)
    return sorted(rows, key=lambda row: order.index(row.name))


def _latency_rows(
    latency: str,
    a: Values,
    b: Values,
    draws: Draws,
    drawn: Literal["requests", "pairs", "time"],
) -> Iterator[MetricRow]:
    drawn_a, drawn_b = a.redrawn(draws[0]), b.redrawn(draws[1])
    units = min(a.num_units, b.num_units)
    n_a, n_b = a.exact.n, b.exact.n
    for statistic in _JUDGED:
        enough = units >= MIN_UNITS and min(n_a, n_b) >= LEAST_VALUES[statistic]
        redrawn = (drawn_a[statistic], drawn_b[statistic]) if enough else None
        values = getattr(a.exact, statistic), getattr(b.exact, statistic)
        yield _row(f"{latency}_{statistic}", values, redrawn, (n_a, n_b), drawn, units)


def _ratio_row(
    name: str, a: Ratio, b: Ratio, draws: Draws, drawn: Literal["requests", "pairs", "time"]
) -> MetricRow:
    units = min(a.num_units, b.num_units)
    redrawn = (a.redrawn(draws[0]), b.redrawn(draws[1])) if units >= MIN_UNITS else None
    return _row(name, (a.value, b.value), redrawn, (a.num_units, b.num_units), drawn, units)


def _row(
    name: str,
    values: tuple[float | None, float | None],
    redrawn: Draws | None,
    n: tuple[int, int],
    drawn: Literal["requests", "pairs", "time"],
    units: int,
) -> MetricRow:
    metric, (a, b) = METRICS[name], values
    change = None if a is None or b is None else b - a
    difference = None if redrawn is None else interval(*redrawn)
    low, high = difference or (None, None)
    low_pct, high_pct = (redrawn and interval_pct(*redrawn)) or (None, None)
    return MetricRow(
        name,
        metric.unit,
        metric.better,
        a,
        b,
        change,
        _percent(change, a),
        low,
        high,
        low_pct,
        high_pct,
        verdict(metric.better, None if change is None else difference),
        *n,
        drawn,
        units,
    )


def _percent(part: float | None, whole: float | None) -> float | None:
    if part == 0:
        return 0.0
    return 100 * part / whole if part is not None and whole else None
