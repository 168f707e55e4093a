"""Two recordings held against each other: all that the screen, the table and the JSON show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from profiler.compare.alignment import Alignment, By, align
from profiler.compare.config import Change, config_diff
from profiler.compare.distribution import Distribution, distributions
from profiler.compare.gate import Gate, gates
from profiler.compare.measured import Measured, measure
from profiler.compare.metric_row import MetricRow, metric_rows
from profiler.compare.regressions import Regression, worst_regressions
from profiler.compare.run import Run
from profiler.compare.workload import Workload, differences, workload_of
from profiler.conditions import Condition
from profiler.folds.slo import Slo
from profiler.metrics import METRICS, Values

SCHEMA: Final = 1


class Side(msgspec.Struct, frozen=True):
    """One recording. `wall_ns` is the Unix time of its beginning, 0 if it does not tell; without
    `clean_end` its server was killed or still runs; `under_way` requests are in no number."""

    path: str
    model: str
    device: str
    tool_version: str
    wall_ns: int
    duration_s: float
    clean_end: bool
    under_way: int
    workload: Workload


class Pairs(msgspec.Struct, frozen=True):
    """How requests were aligned, see `Alignment`; of `count` pairs `same_length` put out equally
    many tokens. `only_a` and `only_b` requests have no partner, and are in no latency if there are
    pairs."""

    by: By
    count: int
    same_length: int
    only_a: int
    only_b: int


class Comparison(msgspec.Struct, frozen=True):
    """`differences` says in sentences how the workloads differ; empty if they are the same.
    `values_a` and `values_b` hold every metric of the registry that a recording can give."""

    schema: int
    a: Side
    b: Side
    pairs: Pairs
    differences: list[str]
    config: list[Change]
    metrics: list[MetricRow]
    values_a: Values
    values_b: Values
    distributions: list[Distribution]
    regressions: list[Regression]
    gates: list[Gate]

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(gate.outcome == "passed" for gate in self.gates)


def compare(
    a: Run, b: Run, slo: Slo | None = None, conditions: Sequence[Condition] = ()
) -> Comparison:
    """B held against A, and to `conditions` that must not hold. Without `slo` no goodput."""
    alignment = align(a.requests, b.requests)
    paired = len(alignment) > 0
    first = measure(a, alignment.a if paired else None, slo)
    second = measure(b, alignment.b if paired else None, slo)
    rows, values_b = metric_rows(first, second, paired), _values(second)
    return Comparison(
        SCHEMA,
        _side(a),
        _side(b),
        _pairs(a, b, alignment),
        differences(a, b, alignment),
        config_diff(a, b),
        rows,
        _values(first),
        values_b,
        list(distributions(first, second)),
        worst_regressions(a, b, alignment),
        gates(conditions, values_b, {row.name: row.change_pct for row in rows}),
    )


def _side(run: Run) -> Side:
    start = run.start
    return Side(
        str(run.path),
        "" if start is None else start.model,
        "" if start is None else start.device,
        "" if start is None else start.tool_version,
        run.wall_ns,
        (run.end_ns - run.start_ns) / 1e9,
        run.facts.get("clean_end") == "1",
        run.under_way,
        workload_of(run),
    )


def _pairs(a: Run, b: Run, alignment: Alignment) -> Pairs:
    lengths = a.requests.output_tokens[alignment.a], b.requests.output_tokens[alignment.b]
    count = len(alignment)
    return Pairs(
        alignment.by,
        count,
        int((lengths[0] == lengths[1]).sum()),
        len(a.requests) - count,
        len(b.requests) - count,
    )


def _values(measured: Measured) -> Values:
    return {name: value for name in METRICS if (value := measured.value(name)) is not None}
