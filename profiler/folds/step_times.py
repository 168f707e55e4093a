"""When each of the newest steps ended: what a token's time is read from."""

from __future__ import annotations

from array import array
from typing import Final

import msgspec

from profiler.folds.packing import pack, unpack

CAPACITY: Final = 1 << 16
_UNKNOWN: Final = 0


class StepTimesFrame(msgspec.Struct, array_like=True):
    first: int
    ends_ns: bytes


class StepTimes:
    """The end of each of the newest 65,536 steps, by step number."""

    def __init__(self) -> None:
        self._first = 0
        self._ends: array[int] = array("q")

    @property
    def last(self) -> int:
        """The newest step's number; below the first before there is one."""
        return self._first + len(self._ends) - 1

    @property
    def oldest(self) -> int:
        return max(self._first, self.last - CAPACITY + 1)

    def add(self, step: int, end_ns: int) -> None:
        missing = step - self.last - 1
        if not self._ends or not 0 <= missing < CAPACITY:
            self._first, self._ends = step, array("q")
        elif missing:
            self._ends.extend([_UNKNOWN] * missing)
        self._ends.append(end_ns)
        if len(self._ends) > 2 * CAPACITY:
            del self._ends[:CAPACITY]
            self._first += CAPACITY

    def get(self, step: int) -> int | None:
        """None for a step that is too old or was lost."""
        if not self.oldest <= step <= self.last:
            return None
        return self._ends[step - self._first] or None

    def between(self, first: int, last: int) -> tuple[range, array[int]]:
        """The known part of steps `first` to `last` and their ends; 0 is a step that was lost."""
        first, last = max(first, self.oldest), min(last, self.last)
        ends = self._ends[first - self._first : max(first, last + 1) - self._first]
        return range(first, first + len(ends)), ends

    def freeze(self, oldest_used: int) -> StepTimesFrame:
        first = min(max(self.oldest, oldest_used), self.last + 1)
        return StepTimesFrame(first, pack(self._ends[first - self._first :]))

    def thaw(self, frame: StepTimesFrame) -> None:
        """Raises: ValueError when the column is cut."""
        self._first, self._ends = frame.first, unpack(frame.ends_ns, "q")
