"""The metrics of a whole session, out of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from profiler.conditions import Condition
from profiler.metrics import Values, of_quantiles
from profiler.objectives import request_bounds, told_objectives
from profiler.report import SessionReport, report_of
from profiler.session.reader import SessionReader

_GOOD_PCT: Final = """
SELECT 100.0 * avg(coalesce(t_first_ns - t_queued_ns <= {ttft}, 1)
    AND coalesce((t_last_ns - t_first_ns) / (nullif(num_output_tokens, 1) - 1.0) <= {tpot}, 1)
    AND coalesce(t_last_ns - t_queued_ns <= {e2el}, 1))
FROM request WHERE request IN (SELECT request FROM request_finished)
"""


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
        ((good_pct,),) = reader.query(_goodness(held_to or ()))
    finally:
        reader.close()
    values = {"good_pct": good_pct} | _rates(report) | _counts(report)
    for name, found in report.latencies.items():
        values |= of_quantiles(name, found)
    return values


def _goodness(objectives: tuple[Condition, ...]) -> str:
    """SQL: the share of finished requests, in percent, that miss no bound."""
    slo = request_bounds(objectives)
    bounds = {"ttft": slo.ttft_ms, "tpot": slo.tpot_ms, "e2el": slo.e2el_ms}
    return _GOOD_PCT.format_map(
        {name: "9e999" if ms is None else ms * 1e6 for name, ms in bounds.items()}
    )


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
