"""A comparison in words: what the table and the screen both say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmtop.format import NONE, clock, grouped, milliseconds, moment, short
from llmtop.sanitize import clean_line
from profiler.compare.comparison import Comparison, Side
from profiler.compare.metric_row import MetricRow
from profiler.folds.quantiles import Quantiles

# What a person looks at first; JSON has the rest.
SHOWN: Final = (
    *(f"{name}_{s}" for name in ("ttft", "itl", "tpot", "e2el") for s in ("p50", "p95", "p99")),
    "tok_s",
    "prompt_tok_s",
    "req_s",
    "good_pct",
    "failed_pct",
    "cached_pct",
    "kv_used_pct",
    "preemptions",
    *(f"step_{s}" for s in ("p50", "p95", "p99")),
)
_PAIRED_BY: Final = {
    "name": "by name",
    "order": "by order, among those with a prompt and a bound of equally many tokens",
}
CAVEAT: Final = (
    "intervals (95 %) hold within one run each; run to run may differ by more: "
    "record each side more than once"
)


def shown_rows(comparison: Comparison) -> list[MetricRow]:
    """The rows of SHOWN that there are, in that order."""
    rows = {row.name: row for row in comparison.metrics}
    return [rows[name] for name in SHOWN if name in rows]


def title(row: MetricRow) -> str:
    """The metric and its unit: ttft p99 ms."""
    name = row.name.removesuffix("_pct").removesuffix("tok_s").removesuffix("req_s").rstrip("_")
    words = name.replace("_", " ") or ("output" if row.name == "tok_s" else "")
    return f"{words} {row.unit}".strip()


def amount(value: float | None, unit: str) -> str:
    if value is None:
        return NONE
    if unit == "ms":
        return milliseconds(value)
    if unit in ("%", "req/s"):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return short(value) if unit else grouped(value)


def change(row: MetricRow) -> str:
    """In percent of A's value, or as an amount where A's, or one drawn from it, is nothing."""
    bounded = row.low is not None and row.low_pct is None
    if row.change_pct is not None and not bounded:
        return f"{_signed(row.change_pct)} %"
    return NONE if row.change is None else _amounts(row, row.change)


def bounds(row: MetricRow) -> str:
    """Of the change with 95 %, in the same unit."""
    if row.low_pct is not None and row.high_pct is not None:
        return f"[{_signed(row.low_pct)}, {_signed(row.high_pct)}] %"
    if row.low is None or row.high is None:
        return NONE
    return _amounts(row, row.low, row.high)


def _amounts(row: MetricRow, *values: float) -> str:
    """Not as parts of A's value: of what is a percentage itself, percentage points."""
    if row.unit == "%":
        texts, unit = [_signed(value) for value in values], "pp"
    else:
        texts, unit = [f"{value:+.3g}" for value in values], row.unit
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return f"{text} {unit}".rstrip()


def _signed(percent: float) -> str:
    """With its sign, unless it rounds to nothing."""
    text = f"{percent:+.1f}" if abs(percent) < 999.5 else f"{percent:+.0f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def judged(row: MetricRow) -> str:
    """The verdict, and how few there were if they were too few."""
    return f"too few: {row.too_few}" if row.verdict == "too few" else row.verdict


def file_name(side: Side) -> str:
    return clean_line(Path(side.path).name)


def began(side: Side) -> str:
    return moment(side.wall_ns)


def lasted(side: Side) -> str:
    return clock(round(side.duration_s * 1e9))


def spread(values: Quantiles | None) -> str:
    """Median and 95th percentile of token counts."""
    return NONE if values is None else f"{grouped(values.p50)} / {grouped(values.p95)}"


def arrivals(side: Side) -> str:
    workload = side.workload
    if workload.arrivals_per_s is None:
        return f"at most {workload.peak} at once"
    varied = "" if workload.arrival_cv is None else f", gaps vary by {workload.arrival_cv:.2f}"
    return f"{workload.arrivals_per_s:.2f}/s{varied}, at most {workload.peak} at once"


def aligned(comparison: Comparison) -> str:
    """How requests were put side by side."""
    pairs = comparison.pairs
    if pairs.by == "none":
        return "requests do not pair up: each run stands for itself"
    left = [f"{n} of {side}" for n, side in ((pairs.only_a, "A"), (pairs.only_b, "B")) if n]
    without = f", {' and '.join(left)} without a partner left out" if left else ""
    lengths = f"{pairs.same_length} put out equally many tokens"
    return f"{pairs.count} pairs {_PAIRED_BY[pairs.by]}{without}; {lengths}"


def refusal(comparison: Comparison) -> str:
    """Why the two are not to be compared, or ""."""
    differences = "; ".join(comparison.differences)
    return f"A and B were asked different things: {differences}" if differences else ""


def notes(comparison: Comparison) -> Iterator[str]:
    """What a reader must know besides, the most important first."""
    for difference in comparison.differences:
        yield f"different workloads: {clean_line(difference)}"
    a, b = comparison.a, comparison.b
    if Path(a.path).resolve() == Path(b.path).resolve():
        yield "A and B are the same recording"
    for name, side in (("A", a), ("B", b)):
        if not side.clean_end:
            yield f"{name} was not closed: its server was killed or still runs"
    if a.under_way or b.under_way:
        yield f"{a.under_way} requests of A and {b.under_way} of B had not ended: in no number"
    yield CAVEAT
