"""An objective that is missed: the alert."""

from __future__ import annotations

from typing import Final

from profiler.conditions import Condition
from profiler.findings.moment import Moment
from profiler.findings.rule import Signal
from profiler.folds.latency import WINDOW_S
from profiler.folds.slo import Slo
from profiler.goodness import goodness_of
from profiler.live_metrics import live_value
from profiler.metrics import METRICS
from profiler.session.latency_sql import LATENCIES_NS

LEVEL: Final = "alert"
_OF_REQUESTS: Final = ("req_s", "good_pct")


class ObjectiveMissed:
    """The metric, over its own window, is not as the objective says. Where there is no value, as
    p99 of too few, there is no alert. `slo` is what all objectives together ask of a request."""

    level: Final = LEVEL
    open_s: Final = 2
    close_s: Final = 10

    def __init__(self, objective: Condition, slo: Slo) -> None:
        self.objective = objective
        self._slo = slo
        self.name = f"slo {objective}"

    def look(self, moment: Moment) -> Signal | None:
        value = live_value(moment.state, self.objective.metric, self._slo)
        if value is None or self.objective.holds(value):
            return None
        objective, unit = self.objective, METRICS[self.objective.metric].unit
        evidence, sql = _proof(objective.metric, value, moment, self._slo)
        weight = value / objective.bound if objective.bound else value
        return Signal(
            weight if objective.op.startswith("<") else -weight,
            f"objective {objective} is missed: {objective.metric} is {value:,.4g} {unit}",
            evidence,
            sql,
        )


Proof = tuple[dict[str, int | float], str]


def _proof(metric: str, value: float, moment: Moment, slo: Slo) -> Proof:
    latency, _, statistic = metric.rpartition("_")
    if latency in LATENCIES_NS:
        values = LATENCIES_NS[latency].format(seqs=moment.seqs(WINDOW_S))
        return {metric: value}, _statistic(values, statistic, metric)
    if metric == "good_pct" and slo != moment.state.throughput.slo:
        found = goodness_of(moment.state, slo)
        return {"good": found.good, "finished": found.finished}, found.sql
    return _of_seconds(metric, moment)


def _statistic(values: str, statistic: str, name: str) -> str:
    """SQL: mean, max or a quantile of the column `ns` that `values` selects, in ms."""
    if statistic in ("mean", "max"):
        function = "avg" if statistic == "mean" else "max"
        return f"SELECT {function}(ns) / 1e6 AS {name} FROM ({values})"
    # Linear interpolation: of the ordered values only the two beside the place have a weight.
    share = int(statistic[1:]) / 100
    return (
        f"SELECT sum(ns * max(0, 1 - abs(i - {share} * (n - 1)))) / 1e6 AS {name} "
        "FROM (SELECT ns, row_number() OVER (ORDER BY ns) - 1 AS i, count(*) OVER () AS n "
        f"FROM ({values}))"
    )


def _of_seconds(metric: str, moment: Moment) -> Proof:
    """Gaps between tokens and rates are not in the file one by one: its seconds tell of them."""
    rows = list(moment.state.seconds.rows)[-WINDOW_S:]
    columns = ["finished", "good"] if metric in _OF_REQUESTS else ["generated_tokens"]
    evidence: dict[str, int | float] = {
        name.removeprefix("generated_"): sum(getattr(row, name) for row in rows) for name in columns
    }
    sums = [f"sum({name}) AS {name.removeprefix('generated_')}" for name in columns]
    gaps = [row.itl_max_ns for row in rows if row.itl_max_ns is not None]
    if metric.startswith("itl_") and gaps:
        evidence["worst_itl_ms"] = max(gaps) / 1e6
        sums.append("max(itl_max_ns) / 1e6 AS worst_itl_ms")
    between = f"BETWEEN {rows[0].second} AND {rows[-1].second}"
    return evidence, f"SELECT {', '.join(sums)} FROM step_1s WHERE second {between}"
