"""The metrics of a whole session, out of its file."""

from __future__ import annotations

from pathlib import Path

from profiler.conditions import Condition
from profiler.metrics import Values, of_quantiles
from profiler.objectives import request_bounds, told_objectives
from profiler.report import SessionReport, report_of
from profiler.session import goodness_sql
from profiler.session.reader import SessionReader


def session_values(path: Path, objectives: tuple[Condition, ...] | None = None) -> Values:
    """By metric name, as the session's report has them: latencies of requests that ended, rates
    from the first step to the end of the last. Requests are good by `objectives`, without them by
    those that the session was recorded with. Raises: SessionFileError."""
    reader = SessionReader(path)
    try:
        report = report_of(reader)
        held_to = (
            told_objectives(report.start) if objectives is None and report.start else objectives
        )
        is_good = goodness_sql.good(request_bounds(held_to or ()))
        sql = f"SELECT 100.0 * avg({is_good}) FROM request WHERE {goodness_sql.FINISHED}"
        ((good_pct,),) = reader.query(sql)
    finally:
        reader.close()
    values = {"good_pct": good_pct} | _rates(report) | _counts(report)
    for name, found in report.latencies.items():
        values |= of_quantiles(name, found)
    return values


def _rates(report: SessionReport) -> dict[str, float | None]:
    flow = report.flow
    if flow is None:
        return {}
    return {
        "tok_s": flow.output_tokens_per_s,
        "prompt_tok_s": flow.prefill_tokens_per_s,
        "req_s": flow.requests_per_s,
    }


def _counts(report: SessionReport) -> dict[str, float | None]:
    work, kv = report.work, report.kv
    failed = work.failed + work.rejected
    return {
        "failed_pct": _percent(failed, failed + work.finished),
        "cached_pct": None if work.cached_share is None else 100 * work.cached_share,
        "kv_used_pct": None if kv is None else _percent(kv.mean_used, kv.num_pages),
        "preemptions": work.preemptions,
    }


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole
