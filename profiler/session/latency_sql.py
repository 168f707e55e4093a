"""Latencies out of a session file in plain SQL, as docs/numbers.md defines them."""

from __future__ import annotations

from typing import Final

LATENCIES_NS: Final[dict[str, str]] = {
    "ttft": (
        "SELECT f.t_ns - q.t_ns AS ns FROM request_first_token f "
        "JOIN request_queued q USING (request) WHERE f.seq {seqs}"
    ),
    "queue": (
        "SELECT s.t_ns - q.t_ns AS ns FROM request_scheduled s "
        "JOIN request_queued q USING (request) WHERE s.resumed = 0 AND s.seq {seqs}"
    ),
    "prefill": (
        "SELECT f.t_ns - s.t_ns AS ns FROM request_first_token f "
        "JOIN request_scheduled s USING (request) WHERE s.resumed = 0 AND f.seq {seqs}"
    ),
    "tpot": (
        "SELECT (r.t_last_ns - r.t_first_ns) / (r.num_output_tokens - 1.0) AS ns "
        "FROM request_finished f JOIN request r USING (request) "
        "WHERE r.num_output_tokens > 1 AND f.seq {seqs}"
    ),
    "e2el": (
        "SELECT r.t_last_ns - r.t_queued_ns AS ns FROM request_finished f "
        "JOIN request r USING (request) WHERE f.seq {seqs}"
    ),
}
"""One row a request, its column `ns`; `{seqs}` bounds the events, such as "BETWEEN 1 AND 900".
Gaps between tokens are not among them: `itl` keeps them packed."""
