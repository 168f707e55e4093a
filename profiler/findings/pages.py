"""Pages of the KV cache that run out: soon, and when they have."""

from __future__ import annotations

from typing import Final

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal
from profiler.findings.words import name_of, plural
from profiler.folds.request_view import RequestView
from profiler.folds.seconds import SecondRow
from profiler.state import SessionState

FORECAST_S: Final = 5
# Of all pages: what grows from nothing is a session that begins.
LEAST_USED_SHARE: Final = 0.5
FULL_WITHIN_S: Final = 30.0
STORM_S: Final = 10
LEAST_PREEMPTIONS: Final = 5


class PagesRunOut:
    """Used pages grow, would take all within 30 s at that rate, and the requests that are there
    could need more than all of them before they end."""

    name: Final = "kv_full_soon"
    level: Final = "warning"
    open_s: Final = 1
    close_s: Final = 5

    def look(self, moment: Moment) -> Signal | None:
        state, rows = moment.state, moment.rows(FORECAST_S)
        if not rows or not _grows(rows):
            return None
        first, last = rows[0], rows[-1]
        total = last.pages_used + last.pages_cached + last.pages_free
        left = last.pages_free + last.pages_cached
        pages_per_s = (last.pages_used - first.pages_used) / (last.second - first.second)
        seconds_left = left / pages_per_s
        near = last.pages_used >= LEAST_USED_SHARE * total and seconds_left <= FULL_WITHIN_S
        if not near or not left or _most_needed(state) <= total:
            return None
        victim = next_victim(state)
        return Signal(
            -seconds_left,
            f"KV full in ~{seconds_left:.0f} s at +{pages_per_s:,.0f} pages/s; next: "
            f"{_next(state, last, victim)}",
            {
                "pages_per_s": pages_per_s,
                "seconds_left": seconds_left,
                "cached_pages": last.pages_cached,
            },
            _forecast_sql(first.second, last.second),
            0 if victim is None else victim.request,
        )


def _grows(rows: list[SecondRow]) -> bool:
    """In both halves: a single jump is no trend."""
    middle = rows[len(rows) // 2]
    return rows[0].pages_used < middle.pages_used < rows[-1].pages_used


def _most_needed(state: SessionState) -> int:
    """Pages if every request that is there ran to its `max_tokens`, none of them shared."""
    session = state.session
    if session is None or not session.block_size:
        return 0
    size = session.block_size
    return sum(
        -(-min((v.num_prompt_tokens or 0) + (v.max_tokens or 0), session.max_model_len) // size)
        for v in state.requests.live.values()
    )


def next_victim(state: SessionState) -> RequestView | None:
    """Whom the scheduler would preempt now: of those that run, the one that is served last."""
    session = state.session
    by_priority = session is not None and session.config.get("scheduling_policy") == "priority"
    running = [v for v in state.requests.live.values() if v.phase in ("prefill", "decode")]
    return max(running, key=lambda v: (v.priority if by_priority else 0, v.request), default=None)


def _next(state: SessionState, last: SecondRow, victim: RequestView | None) -> str:
    evict = f"evict {plural(last.pages_cached, 'cached page')}, then " if last.pages_cached else ""
    return f"{evict}preempt {name_of(state, victim.request)}" if victim else f"{evict}wait"


def _forecast_sql(first: int, last: int) -> str:
    rate = "(b.pages_used - a.pages_used) * 1.0 / (b.second - a.second)"
    return (
        f"SELECT {rate} AS pages_per_s, "
        f"(b.pages_free + b.pages_cached) / ({rate}) AS seconds_left, "
        "b.pages_cached AS cached_pages FROM step_1s a, step_1s b "
        f"WHERE a.second = {first} AND b.second = {last}"
    )


class PreemptionStorm:
    """Requests lose their pages again and again, and what they had computed with them."""

    name: Final = "preemption_storm"
    level: Final = "warning"
    open_s: Final = 0
    close_s: Final = 10

    def look(self, moment: Moment) -> Signal | None:
        rows = moment.rows(STORM_S)
        preemptions = sum(row.preemptions for row in rows)
        if preemptions < LEAST_PREEMPTIONS:
            return None
        peak = max(row.pages_used for row in rows)
        state = moment.state
        most = max(state.requests.live.values(), key=lambda v: v.preemptions, default=None)
        named = most is not None and most.preemptions > 0
        whom = (
            f", {name_of(state, most.request)} {most.preemptions}x so far" if most and named else ""
        )
        return Signal(
            preemptions,
            f"{preemptions} preemptions in {STORM_S} s with {peak:,} of "
            f"{state.pages.num_pages:,} pages used{whom}",
            {"preemptions": preemptions, "peak_pages": peak},
            "SELECT sum(preemptions) AS preemptions, max(pages_used) AS peak_pages FROM step_1s "
            f"WHERE second BETWEEN {rows[0].second} AND {rows[-1].second}",
            most.request if most and named else 0,
        )
