"""Tokens and requests per second."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from profiler.folds.clock import NS_PER_S, Clock
from profiler.folds.request_view import RequestView
from profiler.folds.requests import StepShare
from profiler.folds.slo import Slo

TOKEN_WINDOW_S: Final = 5
REQUEST_WINDOW_S: Final = 60
_MIN_SPAN_NS: Final = NS_PER_S // 10


class Tally(msgspec.Struct, array_like=True):
    """What one second brought. `prefill_tokens` were computed, `cached_tokens` were found."""

    second: int
    steps: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    queued: int = 0
    finished: int = 0
    good: int = 0
    failed: int = 0
    preemptions: int = 0
    packed_pages: int = 0


class ThroughputFrame(msgspec.Struct, array_like=True):
    tallies: list[Tally]
    t_start_ns: int
    slo: Slo
    good: int
    finished: int
    missed: dict[str, int]


class ThroughputMonitor:
    """Rates of tokens over the newest 5 seconds and of requests over the newest 60, each including
    the second that runs; over what there was when the session is younger. None before there is a
    tenth of a second to divide by. Tokens count at the end of their step.

    Without `tells_steps` another server computes: its steps and prompt work are unknown.

    A finished request is good when it meets every objective of `slo`; `missed` counts the
    failures of each objective over the session.
    """

    token_window_s: Final = TOKEN_WINDOW_S
    request_window_s: Final = REQUEST_WINDOW_S

    def __init__(self, clock: Clock, slo: Slo) -> None:
        self._clock = clock
        self._tallies: deque[Tally] = deque()
        self._t_start_ns = 0
        self.slo = slo
        self.good = 0
        self.finished = 0
        self.missed: dict[str, int] = {}
        self.tells_steps = True

    def _now(self) -> Tally:
        """The second that runs, to be added to."""
        second = self._clock.second
        if not self._tallies or self._tallies[-1].second != second:
            self._tallies.append(Tally(second))
        return self._tallies[-1]

    def tally(self, second: int) -> Tally:
        """What one of the newest 60 seconds brought."""
        found = (t for t in reversed(self._tallies) if t.second == second)
        return next(found, Tally(second))

    def start(self) -> None:
        """Time begins to count here."""
        self._t_start_ns = self._clock.t_ns

    def step(self, share: StepShare) -> None:
        now = self._now()
        now.steps += 1
        now.prefill_tokens += share.prefill_tokens
        now.generated_tokens += share.new_tokens

    def packed(self, num_pages: int) -> None:
        if num_pages:
            self._now().packed_pages += num_pages

    def received(self, num_tokens: int) -> None:
        """Tokens that no step of ours made."""
        self._now().generated_tokens += num_tokens

    def queued(self) -> None:
        self._now().queued += 1

    def scheduled(self, cached_tokens: int) -> None:
        self._now().cached_tokens += cached_tokens

    def preempted(self) -> None:
        self._now().preemptions += 1

    def ended(self, view: RequestView, finished: bool) -> None:
        now = self._now()
        if not finished:
            now.failed += 1
            return
        self.finished += 1
        now.finished += 1
        failures = self.slo.failures(view)
        for name in failures:
            self.missed[name] = self.missed.get(name, 0) + 1
        if not failures:
            self.good += 1
            now.good += 1

    def trim(self) -> None:
        while self._tallies and self._tallies[0].second <= self._clock.second - REQUEST_WINDOW_S:
            self._tallies.popleft()

    def _rate(self, field: str, window_s: int) -> float | None:
        first = self._clock.second - window_s + 1
        span_ns = self._clock.t_ns - max(self._t_start_ns, first * NS_PER_S)
        if span_ns < _MIN_SPAN_NS:
            return None
        return self._sum(field, first) * NS_PER_S / span_ns

    def _step_rate(self, field: str) -> float | None:
        return self._rate(field, TOKEN_WINDOW_S) if self.tells_steps else None

    def _sum(self, field: str, first: int) -> int:
        return sum(getattr(t, field) for t in self._tallies if t.second >= first)

    @property
    def generated_per_s(self) -> float | None:
        """Output tokens per second."""
        return self._rate("generated_tokens", TOKEN_WINDOW_S)

    @property
    def prompt_per_s(self) -> float | None:
        """Prompt tokens computed per second, those out of the prefix cache left out."""
        return self._step_rate("prefill_tokens")

    @property
    def cached_per_s(self) -> float | None:
        """Prompt tokens per second that the prefix cache saved."""
        return self._step_rate("cached_tokens")

    @property
    def steps_per_s(self) -> float | None:
        return self._step_rate("steps")

    @property
    def packed_per_s(self) -> float | None:
        """Pages packed per second, where full ones are."""
        return self._step_rate("packed_pages")

    @property
    def requests_per_s(self) -> float | None:
        """Finished requests per second."""
        return self._rate("finished", REQUEST_WINDOW_S)

    @property
    def goodput_per_s(self) -> float | None:
        """Good requests per second."""
        return self._rate("good", REQUEST_WINDOW_S)

    @property
    def good_share(self) -> float | None:
        """Of the requests that finished within the newest 60 s, 0 to 1; None without any."""
        first = self._clock.second - REQUEST_WINDOW_S + 1
        finished = self._sum("finished", first)
        return self._sum("good", first) / finished if finished else None

    def freeze(self) -> ThroughputFrame:
        return ThroughputFrame(
            list(self._tallies), self._t_start_ns, self.slo, self.good, self.finished, self.missed
        )

    def thaw(self, frame: ThroughputFrame) -> None:
        self._tallies.extend(frame.tallies)
        self._t_start_ns = frame.t_start_ns
        self.slo = frame.slo
        self.good = frame.good
        self.finished = frame.finished
        self.missed = frame.missed
