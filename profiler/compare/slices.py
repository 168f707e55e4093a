"""A run cut into equal stretches of time: the units of rates, which belong to no single request."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from profiler.compare.run import Run
from profiler.compare.sample import Ratio, Values

MAX_SLICES: Final = 64
_NS_PER_S: Final = 1e9

Floats = NDArray[np.float64]


class Slices:
    """From the first arrival to the last end: slices of a second or more, at most 64 of them, so
    that in a longer run neighbours, which resemble each other, lie in one slice."""

    def __init__(self, run: Run) -> None:
        requests = run.requests
        self._run = run
        self._begin_ns = float(requests.t_queued_ns.min())
        self._span_ns = max(1.0, float(requests.t_done_ns.max()) - self._begin_ns)
        self.count = max(1, min(MAX_SLICES, int(self._span_ns / _NS_PER_S)))
        self._durations_s = np.full(self.count, self._span_ns / _NS_PER_S / self.count)
        steps = run.steps
        inside = (steps.end_ns >= self._begin_ns) & (steps.end_ns <= self._begin_ns + self._span_ns)
        self._inside = inside
        self._step_slice = self._slice_of(steps.end_ns[inside])
        self._step_ns = (steps.end_ns - steps.t_ns)[inside].astype(np.float64)

    def _slice_of(self, t_ns: NDArray[np.int64] | Floats) -> NDArray[np.int64]:
        at = (np.asarray(t_ns, dtype=np.float64) - self._begin_ns) * self.count / self._span_ns
        return np.clip(at.astype(np.int64), 0, self.count - 1)

    def _summed(self, where: NDArray[np.int64], amounts: Floats) -> Floats:
        return np.bincount(where, amounts, self.count).astype(np.float64)

    def rates(self) -> dict[str, Ratio]:
        """Sums per second, by metric; tokens count at the end of their step, through a proxy when
        they came, and then nothing tells when a prompt was computed."""
        requests, steps = self._run.requests, self._run.steps
        ends = self._slice_of(requests.t_done_ns)
        answered = self._summed(ends, requests.answered.astype(np.float64))
        rates = {"req_s": Ratio(answered, self._durations_s)}
        if not self._run.tells_steps:
            return rates | {"tok_s": Ratio(self._received(), self._durations_s)}
        generated = steps.new_tokens[self._inside].astype(np.float64)
        prompt = steps.prefill_tokens[self._inside].astype(np.float64)
        return rates | {
            "tok_s": Ratio(self._summed(self._step_slice, generated), self._durations_s),
            "prompt_tok_s": Ratio(self._summed(self._step_slice, prompt), self._durations_s),
        }

    def _received(self) -> Floats:
        """(slices,) of output tokens; those that came without a time of their own at the end."""
        requests = self._run.requests
        begun = ~np.isnan(requests.t_first_ns)
        since_us = np.cumsum(requests.gaps_us, dtype=np.float64)
        before_us = np.r_[0.0, since_us][np.cumsum(requests.num_gaps) - requests.num_gaps]
        begins_ns = np.repeat(requests.t_first_ns - before_us * 1e3, requests.num_gaps)
        untimed = requests.output_tokens - requests.num_gaps - begun
        return sum(
            (
                self._summed(self._slice_of(t_ns), amounts)
                for t_ns, amounts in (
                    (requests.t_first_ns[begun], np.ones(int(begun.sum()))),
                    (begins_ns + since_us * 1e3, np.ones(len(since_us))),
                    (requests.t_done_ns, np.maximum(untimed, 0).astype(np.float64)),
                )
            ),
            np.zeros(self.count),
        )

    def kv_used(self) -> Ratio | None:
        """Percent of the pages, each step counting by its length; None without pages or steps."""
        if not self._run.num_pages or not len(self._step_ns):
            return None
        used = self._run.steps.pages_used[self._inside] * self._step_ns / self._run.num_pages
        return Ratio(
            self._summed(self._step_slice, used),
            self._summed(self._step_slice, self._step_ns),
            100.0,
        )

    def step_ms(self) -> Values | None:
        return Values.of(self._step_ns, self._step_slice.astype(np.int16), self.count, 1e6)
