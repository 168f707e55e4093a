"""A prefix cache that gives pages up before they are asked for again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal
from profiler.folds.seconds import SecondRow

SPAN_S: Final = 20
# Of all pages, given up within the span: the cache turned over by half.
LEAST_EVICTED_SHARE: Final = 0.5
LEAST_HIT_SHARE: Final = 0.2
LEAST_TOKENS: Final = 256


class _Hits(NamedTuple):
    cached: int
    tokens: int
    first: int
    last: int

    @property
    def share(self) -> float:
        return self.cached / self.tokens if self.tokens else 0.0


class PrefixThrash:
    """Half of the pages were evicted within 20 s, and the share of prompt tokens found in the
    cache is less than half of what it was in 20 s before that."""

    name: Final = "prefix_thrash"
    level: Final = "warning"
    open_s: Final = 2
    close_s: Final = 10

    def __init__(self) -> None:
        self._evictions: deque[tuple[int, int]] = deque(maxlen=SPAN_S)

    def look(self, moment: Moment) -> Signal | None:
        state, pages = moment.state, moment.state.pages
        self._evictions.append((state.seq, pages.evictions))
        since_seq, before = self._evictions[0]
        evicted = pages.evictions - before
        if not pages.num_pages or evicted < LEAST_EVICTED_SHARE * pages.num_pages:
            return None
        rows = list(state.seconds.rows)
        now, best = _hits(rows[-SPAN_S:]), _best(rows[:-SPAN_S])
        if best is None or now.tokens < LEAST_TOKENS or now.share * 2 > best.share:
            return None
        return Signal(
            best.share - now.share,
            f"prefix cache thrashes: {100 * now.share:.0f} % of prompt tokens found in {SPAN_S} s, "
            f"{100 * best.share:.0f} % before; {evicted:,} of {pages.num_pages:,} pages evicted",
            {
                "hit_pct": 100 * now.share,
                "hit_pct_before": 100 * best.share,
                "evicted_pages": evicted,
            },
            f"SELECT ({_share_sql(now)}) AS hit_pct, ({_share_sql(best)}) AS hit_pct_before, "
            "(SELECT sum(evicted_pages) FROM page_delta "
            f"WHERE seq > {since_seq} AND seq <= {state.seq}) AS evicted_pages",
        )


def _hits(rows: Sequence[SecondRow]) -> _Hits:
    cached = sum(row.cached_tokens for row in rows)
    tokens = cached + sum(row.prefill_tokens for row in rows)
    return _Hits(cached, tokens, rows[0].second, rows[-1].second)


def _best(rows: Sequence[SecondRow]) -> _Hits | None:
    """The span with the greatest share of hits that is worth the name."""
    spans = [_hits(rows[i : i + SPAN_S]) for i in range(len(rows) - SPAN_S + 1)]
    told = [s for s in spans if s.tokens >= LEAST_TOKENS and s.share >= LEAST_HIT_SHARE]
    return max(told, key=lambda span: span.share, default=None)


def _share_sql(span: _Hits) -> str:
    return (
        "SELECT 100.0 * sum(cached_tokens) / sum(cached_tokens + prefill_tokens) FROM step_1s "
        f"WHERE second BETWEEN {span.first} AND {span.last}"
    )
