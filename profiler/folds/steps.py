"""The newest engine steps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice
from typing import Final

import msgspec

from profiler.events import Step

CAPACITY: Final = 512


class StepsFrame(msgspec.Struct, array_like=True):
    ring: list[Step]
    num_steps: int


class Steps:
    """`ring` holds the newest 512 steps, oldest first; `num_steps` counts all there were."""

    def __init__(self) -> None:
        self.ring: deque[Step] = deque(maxlen=CAPACITY)
        self.num_steps = 0

    @property
    def last(self) -> Step | None:
        return self.ring[-1] if self.ring else None

    def step(self, event: Step) -> None:
        self.ring.append(event)
        self.num_steps += 1

    def newest(self, n: int) -> list[Step]:
        """Up to `n` steps, oldest first."""
        steps = list(islice(reversed(self.ring), n))
        steps.reverse()
        return steps

    def find(self, number: int) -> Step | None:
        """The step of that number, or None when the ring no longer holds it."""
        i = bisect_left(self.ring, number, key=lambda s: s.step)
        if i < len(self.ring) and self.ring[i].step == number:
            return self.ring[i]
        return None

    def between(self, begin_ns: int, end_ns: int) -> list[Step]:
        """The kept steps that ended after `begin_ns` and not after `end_ns`, oldest first."""
        first = bisect_right(self.ring, begin_ns, key=lambda s: s.end_ns)
        last = bisect_right(self.ring, end_ns, key=lambda s: s.end_ns)
        return list(islice(self.ring, first, last))

    def freeze(self) -> StepsFrame:
        return StepsFrame(list(self.ring), self.num_steps)

    def thaw(self, frame: StepsFrame) -> None:
        self.ring.extend(frame.ring)
        self.num_steps = frame.num_steps
