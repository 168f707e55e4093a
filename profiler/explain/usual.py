"""What steps usually cost, from the newest of them: the measure of what one step cost too much."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Final, NamedTuple

from profiler.events import Step
from profiler.folds.steps import Steps

# Enough for a median that one odd step does not move, few enough to stay near in size and time.
LIKES: Final = 32
_QUARTILES_FROM: Final = 8
_FENCE_FROM: Final = 3
_ROUGH_FENCE: Final = 3.0
_LEAST_FENCE: Final = 1.1
_MAX_PREFILLS: Final = 128


class Usual(NamedTuple):
    """The middle of like steps, and the value above which one is no longer like them: Tukey's
    fence, the upper quartile plus 1.5 times the distance of the quartiles, and at least a tenth
    above the middle. Of three to seven steps it is three times the middle, of fewer None."""

    middle: float
    fence: float | None

    def within(self, value: float) -> bool:
        return self.fence is None or value <= self.fence


class Likes:
    """Values by size and step number; asked for those that are nearest in size, then in time."""

    def __init__(self) -> None:
        self._by_size: dict[int, list[tuple[int, float]]] = {}
        self._sizes: list[int] = []

    def add(self, size: int, step: int, value: float) -> None:
        """Steps must come in order."""
        if size not in self._by_size:
            self._by_size[size] = []
            insort(self._sizes, size)
        self._by_size[size].append((step, value))

    def usual(self, size: int, step: int) -> Usual | None:
        """Of up to 32 others of half to twice the size; None if there are none."""
        return usual_of(self._nearest(size, step))

    def middle(self, size: int, step: int) -> float | None:
        """Of the same others."""
        found = self._nearest(size, step)
        return median(found) if found else None

    def _nearest(self, size: int, step: int) -> list[float]:
        found: list[float] = []
        for near in self._nearest_sizes(size):
            found += self._nearest_steps(near, step, LIKES - len(found))
            if len(found) >= LIKES:
                break
        return found

    def _nearest_sizes(self, size: int) -> list[int]:
        low, high = bisect_left(self._sizes, -(-size // 2)), bisect_left(self._sizes, 2 * size + 1)
        return sorted(self._sizes[low:high], key=lambda near: (abs(near - size), near))

    def _nearest_steps(self, size: int, step: int, count: int) -> list[float]:
        entries = self._by_size[size]
        if len(entries) == 1:  # as most sizes of prefill
            return [value for at, value in entries if at != step]
        at = bisect_left(entries, (step,))
        after = at + (at < len(entries) and entries[at][0] == step)
        near = entries[max(0, at - count) : at] + entries[after : after + count]
        # The nearest of what is in order are neighbours: where they begin is found by halving.
        first, last = 0, max(0, len(near) - count)
        while first < last:
            middle = (first + last) // 2
            if step - near[middle][0] > near[middle + count][0] - step:
                first = middle + 1
            else:
                last = middle
        return [value for _, value in near[first : first + count]]


def usual_of(values: Sequence[float]) -> Usual | None:
    if not values:
        return None
    if len(values) < _QUARTILES_FROM:
        middle = median(values)
        return Usual(middle, None if len(values) < _FENCE_FROM else _ROUGH_FENCE * middle)
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Usual(middle, max(high + 1.5 * (high - low), _LEAST_FENCE * middle))


def compute_ns(step: Step) -> int:
    """The time in which the device computed: its own measurement, else what the host waited."""
    length_ns = step.end_ns - step.t_ns
    known_ns = length_ns - step.host_ns if step.device_ns is None else step.device_ns
    return min(max(0, known_ns), length_ns)


def num_decoding(step: Step) -> int:
    return [row.prefill_tokens for row in step.rows].count(0)


class UsualSteps:
    """Of decode-only steps by batch size, and of prefill by its tokens, among the newest steps.

    Decode-only steps that replayed a graph count, or all of them where none did.
    """

    def __init__(self, steps: Steps) -> None:
        self._decode, self._eager = Likes(), Likes()
        self._carried: deque[tuple[Step, int, int]] = deque(maxlen=_MAX_PREFILLS)
        self._rates: Likes | None = None
        replayed = False
        columns = zip(steps.ring, steps.num_prefills, steps.prefill_tokens, strict=True)
        for step, num_prefills, tokens in columns:
            if tokens:
                self._carried.append((step, len(step.rows) - num_prefills, tokens))
            elif step.rows:
                miss = step.graph == "miss"
                replayed |= not miss
                into = self._eager if miss else self._decode
                into.add(len(step.rows), step.step, compute_ns(step))
        if not replayed:
            self._decode = self._eager

    def decode(self, batch: int, step: int) -> Usual | None:
        """What decoding `batch` requests takes, ns; None if no like step is known."""
        return self._decode.usual(batch, step) if batch else Usual(0.0, None)

    def prefill(self, tokens: int, step: int) -> Usual | None:
        """What a prompt token adds to a step that computes `tokens` of them, ns, over the newest
        128 steps with prefill."""
        if self._rates is None:
            self._rates = Likes()
            for carried, batch, num_tokens in self._carried:
                self._add_rate(self._rates, carried, batch, num_tokens)
        return self._rates.usual(tokens, step)

    def _add_rate(self, rates: Likes, step: Step, batch: int, tokens: int) -> None:
        decode_ns = self._decode.middle(batch, step.step) if batch else 0.0
        if decode_ns is not None:
            rates.add(tokens, step.step, max(0.0, compute_ns(step) - decode_ns) / tokens)
