"""What another kind of server told of itself lately: rates and spreads between its readings."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final, TypeVar

import msgspec

from profiler.events import MetricsSample
from profiler.folds.clock import NS_PER_S, Clock
from profiler.foreign.spread import Spread, spread_of

MOST: Final = 300
# Readings that keep their histograms: a minute at one a second.
MOST_WHOLE: Final = 61
RATE_S: Final = 5
SPREAD_S: Final = 60
STALE_S: Final = 5

T = TypeVar("T")


class Foreign:
    """`samples` are the newest readings, oldest first. Every value is None where the page does not
    have it, or where one reading alone cannot tell.

    What is worked out of the readings holds until the next one: frames come more often than they.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.samples: deque[MetricsSample] = deque(maxlen=MOST)
        self._known: dict[tuple[str, str, int], Any] = {}

    def sample(self, event: MetricsSample) -> None:
        self._known = {}
        if self.samples and self.samples[-1].engine != event.engine:
            self.samples.clear()
        self.samples.append(event)
        if len(self.samples) > MOST_WHOLE:
            old = self.samples[-MOST_WHOLE - 1]
            self.samples[-MOST_WHOLE - 1] = msgspec.structs.replace(old, histograms={})

    @property
    def last(self) -> MetricsSample | None:
        return self.samples[-1] if self.samples else None

    @property
    def is_stale(self) -> bool:
        """Whether the newest reading is too old to be taken for the present."""
        last = self.last
        return last is not None and self._clock.t_ns - last.t_ns > STALE_S * NS_PER_S

    def gauge(self, key: str) -> float | None:
        return None if self.last is None else self.last.gauges.get(key)

    def rate(self, key: str, span_s: int = RATE_S) -> float | None:
        """Of a counter, per second, over the newest `span_s`."""
        return self._once(("rate", key, span_s), lambda: self._rate(key, span_s))

    def growth(self, key: str, span_s: int = SPREAD_S) -> float | None:
        """Of a counter over the newest `span_s`."""
        return self._once(("growth", key, span_s), lambda: self._growth(key, span_s))

    def rates(self, key: str) -> list[tuple[int, float | None]]:
        """The time of each reading but the first, and the counter's rate since the one before."""
        pairs = pairwise(self.samples)
        return self._once(("rates", key, MOST), lambda: [_rate_of(*pair, key) for pair in pairs])

    def spread(self, key: str) -> Spread | None:
        """Of a histogram's values that came within the newest minute."""
        return self._once(("spread", key, SPREAD_S), lambda: self._spread(key))

    def _once(self, what: tuple[str, str, int], work_out: Callable[[], T]) -> T:
        if what not in self._known:
            self._known[what] = work_out()
        found: T = self._known[what]
        return found

    def _rate(self, key: str, span_s: int) -> float | None:
        grown, elapsed_ns = 0.0, 0
        for before, after in pairwise(self._since(span_s)):
            step = _growth(before, after, key)
            if step is not None:
                grown += step
                elapsed_ns += after.t_ns - before.t_ns
        return grown * NS_PER_S / elapsed_ns if elapsed_ns else None

    def _growth(self, key: str, span_s: int) -> float | None:
        steps = [_growth(*pair, key) for pair in pairwise(self._since(span_s))]
        known = [step for step in steps if step is not None]
        return sum(known) if known else None

    def _spread(self, key: str) -> Spread | None:
        readings = (sample.histograms.get(key) for sample in self._since(SPREAD_S))
        return spread_of(buckets for buckets in readings if buckets is not None)

    @property
    def generated(self) -> str:
        """The counter of output tokens: one that moves with each step before one that moves when a
        request ends."""
        last = self.last
        live = last is None or "generation_tokens" in last.counters
        return "generation_tokens" if live else "generation_tokens_at_end"

    @property
    def prefix_share(self) -> float | None:
        """The share of prompt tokens that came out of the cache within the newest minute; where
        only the engine's own rate is told, that."""
        hits, asked = self.growth("prefix_hits"), self.growth("prefix_queries")
        if asked is None and hits is not None:
            computed = self.growth("prompt_tokens")
            asked = None if computed is None else hits + computed
        if hits is None or asked is None:
            return self.gauge("prefix_hit_rate")
        return hits / asked if asked else None

    @property
    def mean_itl_s(self) -> float | None:
        """Of an engine that counts the seconds of generating instead of telling a histogram."""
        seconds, tokens = self.growth("generation_s"), self.growth("generation_tokens")
        return seconds / tokens if seconds is not None and tokens else None

    def _since(self, span_s: int) -> list[MetricsSample]:
        """The readings of the newest `span_s`, and the one before them."""
        last = self.last
        begin_ns = 0 if last is None else last.t_ns - span_s * NS_PER_S
        recent = [sample for sample in self.samples if sample.t_ns >= begin_ns]
        older = len(self.samples) - len(recent)
        return [self.samples[older - 1], *recent] if older else recent


def _rate_of(before: MetricsSample, after: MetricsSample, key: str) -> tuple[int, float | None]:
    step, elapsed_ns = _growth(before, after, key), after.t_ns - before.t_ns
    rate = None if step is None or elapsed_ns <= 0 else step * NS_PER_S / elapsed_ns
    return after.t_ns, rate


def _growth(before: MetricsSample, after: MetricsSample, key: str) -> float | None:
    """None where one of both lacks the counter, or where the server began anew."""
    old, new = before.counters.get(key), after.counters.get(key)
    return None if old is None or new is None or new < old else new - old
