"""How values are spread, as far as a histogram's buckets tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from profiler.events import Buckets


class Quantile(NamedTuple):
    """The value lies above `low_s` and is at most `high_s`, None where only infinity is above;
    `guess_s` is between them as if the bucket were evenly filled. It is None beyond the last edge,
    and below the first, where all values may be next to nothing."""

    low_s: float
    high_s: float | None
    guess_s: float | None


class Spread(NamedTuple):
    """`n` values; `ends[i]` of them at most `edges[i]` seconds."""

    n: float
    sum_s: float
    edges: tuple[float, ...]
    ends: tuple[float, ...]

    @property
    def mean_s(self) -> float:
        return self.sum_s / self.n

    def quantile(self, share: float) -> Quantile:
        """Of at least one value. Source: Prometheus' histogram_quantile, with its bounds told."""
        rank, before, low = share * self.n, 0.0, 0.0
        first = self.edges[0] if self.edges else 0.0
        for edge, end in zip(self.edges, self.ends, strict=True):
            if end >= rank and end > before:
                inside = (rank - before) / (end - before)
                return Quantile(low, edge, None if edge == first else low + (edge - low) * inside)
            before, low = end, edge
        return Quantile(low, None, None)


def spread_of(readings: Iterable[Buckets]) -> Spread | None:
    """Of the values between the first and the last reading; None of none.

    A server that began anew, or that was told other edges, begins a new stretch: what it counted
    before the first reading after that is not known and left out.
    """
    n = sum_s = 0.0
    edges: tuple[float, ...] = ()
    ends: list[float] = []
    last: Buckets | None = None
    for now in readings:
        if now.edges != edges:
            n, sum_s, edges, ends = 0.0, 0.0, now.edges, [0.0] * len(now.edges)
        elif last is not None and now.count >= last.count:
            n += now.count - last.count
            sum_s += max(0.0, now.sum_s - last.sum_s)
            pairs = zip(now.counts, last.counts, strict=True)
            ends = [end + max(0.0, new - old) for end, (new, old) in zip(ends, pairs, strict=True)]
        last = now
    return Spread(n, sum_s, edges, tuple(ends)) if n > 0 else None
