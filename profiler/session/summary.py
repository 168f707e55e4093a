"""The metrics of a whole session, out of its file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from profiler.folds.packing import unpack
from profiler.folds.quantiles import Quantiles
from profiler.metrics import Values, of_quantiles
from profiler.session.latency_sql import LATENCIES_NS
from profiler.session.opening import SessionFile, damaged

_EVERYTHING: Final = "> 0"
_COUNTS: Final = {
    "finished": "SELECT count(*) FROM request_finished",
    "failed": "SELECT (SELECT count(*) FROM request_aborted) + count(*) FROM request_rejected",
    "preemptions": "SELECT count(*) FROM request_preempted",
    "good": "SELECT sum(good) FROM step_1s",
    "judged": "SELECT sum(finished) FROM step_1s",
    "new_tokens": "SELECT sum(new_tokens) FROM step",
    "prefill_tokens": "SELECT sum(prefill_tokens) FROM step",
    "span_ns": "SELECT max(end_ns) - min(t_ns) FROM step",
    "cached": "SELECT sum(cached_tokens) FROM request_scheduled WHERE resumed = 0",
    "prompt": (
        "SELECT sum(num_prompt_tokens) FROM request_queued q "
        "JOIN request_scheduled s USING (request) WHERE s.resumed = 0"
    ),
}


def session_values(path: Path) -> Values:
    """By metric name. Rates are taken from the first step to the end of the last; gaps between
    tokens are those of requests that ended. Raises: SessionFileError."""
    with SessionFile(path) as file:
        try:
            return _latencies(file.connection) | _rates(file.connection)
        except (sqlite3.Error, ValueError) as error:
            raise damaged(path, error) from None


def _latencies(connection: sqlite3.Connection) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for name, sql in LATENCIES_NS.items():
        found = [ns for (ns,) in connection.execute(sql.format(seqs=_EVERYTHING))]
        values |= of_quantiles(name, Quantiles.of([ns for ns in found if ns is not None]), 1e6)
    gaps: list[float] = []
    for (packed,) in connection.execute("SELECT gaps_us FROM itl"):
        gaps.extend(unpack(packed, "I"))
    return values | of_quantiles("itl", Quantiles.of(gaps), 1e3)


def _rates(connection: sqlite3.Connection) -> dict[str, float | None]:
    count = {name: connection.execute(sql).fetchone()[0] or 0 for name, sql in _COUNTS.items()}
    span_s = count["span_ns"] / 1e9
    return {
        "tok_s": _ratio(count["new_tokens"], span_s),
        "prompt_tok_s": _ratio(count["prefill_tokens"], span_s),
        "req_s": _ratio(count["finished"], span_s),
        "good_pct": _ratio(100 * count["good"], count["judged"]),
        "failed_pct": _ratio(100 * count["failed"], count["failed"] + count["finished"]),
        "cached_pct": _ratio(100 * count["cached"], count["prompt"]),
        "preemptions": count["preemptions"],
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
