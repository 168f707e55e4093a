"""The newest engine steps, and of those before them the ones that held tokens up."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice
from typing import Final

import msgspec

from profiler.events import Step

CAPACITY: Final = 512
# A step is late when its end is so many times the usual distance after the end before it.
_LATE: Final = 2.0
_USUAL_OVER: Final = 32


class StepsFrame(msgspec.Struct, array_like=True):
    ring: list[Step]
    num_steps: int
    prefill_tokens: list[int] = []
    older: list[Step] = []
    notable_in_ring: list[int] = []
    usual_ns: float = 0.0
    num_prefills: list[int] = []


class Steps:
    """`ring` holds the newest 512 steps, oldest first, and `prefill_tokens` the sum of each one's
    rows, of which `num_prefills` have some; `num_steps` counts all there were.

    `notable` holds the newest 512 of those that carried prefill or were late, so that a token's
    delay can be explained when the steps around it are long forgotten.
    """

    def __init__(self) -> None:
        self.ring: deque[Step] = deque(maxlen=CAPACITY)
        self.num_prefills: deque[int] = deque(maxlen=CAPACITY)
        self.prefill_tokens: deque[int] = deque(maxlen=CAPACITY)
        self.notable: deque[Step] = deque(maxlen=CAPACITY)
        self.num_steps = 0
        self._usual_ns = 0.0

    @property
    def last(self) -> Step | None:
        return self.ring[-1] if self.ring else None

    def step(self, event: Step, num_prefills: int, prefill_tokens: int) -> None:
        if self._is_late(event) or prefill_tokens:
            self.notable.append(event)
        self.ring.append(event)
        self.num_prefills.append(num_prefills)
        self.prefill_tokens.append(prefill_tokens)
        self.num_steps += 1

    def _is_late(self, event: Step) -> bool:
        """Whether the step is, after it has counted for what is usual."""
        last = self.last
        if last is None or not self._usual_ns:
            self._usual_ns = float(event.end_ns - event.t_ns)
            return False
        gap_ns, most_ns = event.end_ns - last.end_ns, _LATE * self._usual_ns
        # What is late counts as twice the usual: a pause of minutes does not make all else early.
        self._usual_ns += (min(gap_ns, most_ns) - self._usual_ns) / _USUAL_OVER
        return gap_ns > most_ns

    def newest(self, n: int) -> list[Step]:
        """Up to `n` steps, oldest first."""
        steps = list(islice(reversed(self.ring), n))
        steps.reverse()
        return steps

    def find(self, number: int) -> Step | None:
        """The step of that number, or None when it is no longer kept."""
        return _find(self.ring, number) or _find(self.notable, number)

    def between(self, begin_ns: int, end_ns: int) -> list[Step]:
        """The kept steps that ended after `begin_ns` and not after `end_ns`, oldest first."""
        older = list(islice(self.notable, self._num_older()))
        return _ended(older, begin_ns, end_ns) + _ended(self.ring, begin_ns, end_ns)

    def _num_older(self) -> int:
        """How many of the notable steps have left the ring."""
        if not self.ring:
            return 0
        return bisect_left(self.notable, self.ring[0].step, key=lambda s: s.step)

    def freeze(self) -> StepsFrame:
        older = self._num_older()
        return StepsFrame(
            list(self.ring),
            self.num_steps,
            list(self.prefill_tokens),
            list(islice(self.notable, older)),
            [step.step for step in islice(self.notable, older, None)],
            self._usual_ns,
            list(self.num_prefills),
        )

    def thaw(self, frame: StepsFrame) -> None:
        self.ring.extend(frame.ring)
        # A keyframe from before a field has none of it.
        known = len(frame.prefill_tokens) == len(frame.ring)
        self.prefill_tokens.extend(
            frame.prefill_tokens if known else map(_prefill_tokens, frame.ring)
        )
        known = len(frame.num_prefills) == len(frame.ring)
        self.num_prefills.extend(frame.num_prefills if known else map(_num_prefills, frame.ring))
        self.num_steps = frame.num_steps
        within = set(frame.notable_in_ring)
        self.notable.extend(frame.older)
        self.notable.extend(step for step in frame.ring if step.step in within)
        self._usual_ns = frame.usual_ns


def _prefill_tokens(step: Step) -> int:
    return sum(row.prefill_tokens for row in step.rows)


def _num_prefills(step: Step) -> int:
    return sum(row.prefill_tokens > 0 for row in step.rows)


def _find(steps: deque[Step], number: int) -> Step | None:
    at = bisect_left(steps, number, key=lambda s: s.step)
    return steps[at] if at < len(steps) and steps[at].step == number else None


def _ended(steps: deque[Step] | list[Step], begin_ns: int, end_ns: int) -> list[Step]:
    first = bisect_right(steps, begin_ns, key=lambda s: s.end_ns)
    last = bisect_right(steps, end_ns, key=lambda s: s.end_ns)
    return list(islice(steps, first, last))
