"""How many of the newest requests were good, by objectives that the session may not have known."""

from __future__ import annotations

from typing import NamedTuple

from profiler.folds.slo import Slo
from profiler.folds.throughput import REQUEST_WINDOW_S
from profiler.session.goodness_sql import FINISHED, good
from profiler.state import SessionState


class Goodness(NamedTuple):
    good: int
    finished: int
    sql: str
    """Selects both out of the session file."""

    @property
    def share(self) -> float | None:
        """0 to 1; None where nothing finished."""
        return self.good / self.finished if self.finished else None


def goodness_of(state: SessionState, slo: Slo) -> Goodness:
    """Of the requests that finished within the newest 60 s, among the newest 256 that ended: those
    are all that a state knows one by one."""
    since_ns = (state.second - REQUEST_WINDOW_S + 1) * 1_000_000_000
    finished = [
        view
        for view in state.requests.done
        if not view.was_aborted and view.t_done_ns is not None and view.t_done_ns >= since_ns
    ]
    newest = (
        f"SELECT * FROM request WHERE t_done_ns <= {state.t_ns} "
        f"ORDER BY t_done_ns DESC LIMIT {state.requests.done.maxlen}"
    )
    sql = (
        f"SELECT sum({good(slo)}) AS good, count(*) AS finished FROM ({newest}) "
        f"WHERE t_done_ns >= {since_ns} AND {FINISHED}"
    )
    return Goodness(sum(not slo.failures(view) for view in finished), len(finished), sql)
