"""Values of the newest seconds, kept one by one so that their quantiles are exact."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from profiler.folds.packing import pack, unpack
from profiler.folds.quantiles import Quantiles

_WEIGHT_BITS: Final = 20
_MAX_WEIGHT: Final = (1 << _WEIGHT_BITS) - 1
_MAX_VALUE: Final = (1 << 42) - 1


class WindowFrame(msgspec.Struct, array_like=True):
    seconds: list[int]
    entries: list[bytes]


class Window:
    """Nanoseconds, up to 73 minutes each, of the `span_s` newest seconds including the one that
    runs. A value and its weight share one integer: such lists sort in a quarter of the time that
    lists of pairs take."""

    def __init__(self, span_s: int) -> None:
        self.span_s = span_s
        self._seconds: deque[tuple[int, array[int]]] = deque()
        self._version = 0
        self._known: tuple[int, Quantiles | None] = (-1, None)

    def add(self, second: int, value_ns: int, weight: int = 1) -> None:
        if not self._seconds or self._seconds[-1][0] != second:
            self._close_newest()
            self._seconds.append((second, array("q")))
        value = min(max(0, value_ns), _MAX_VALUE)
        self._seconds[-1][1].append(value << _WEIGHT_BITS | min(weight, _MAX_WEIGHT))
        self._version += 1

    def _close_newest(self) -> None:
        """Sort the newest second, now that it is over: sorting the whole window is then a merge
        of runs, which takes half the time."""
        if self._seconds:
            second, entries = self._seconds[-1]
            self._seconds[-1] = (second, array("q", sorted(entries)))

    def trim(self, second: int) -> None:
        """Forget what is too old at `second`."""
        while self._seconds and self._seconds[0][0] <= second - self.span_s:
            self._seconds.popleft()
            self._version += 1

    def quantiles(self) -> Quantiles | None:
        """Of the whole window, in ns; None when nothing happened in it."""
        if self._known[0] != self._version:
            entries = array("q")
            for _, of_second in self._seconds:
                entries.extend(of_second)
            self._known = (self._version, _quantiles(entries))
        return self._known[1]

    def share_below(self, limit_ns: int) -> float | None:
        """Of the window's values, by weight, those below `limit_ns`: 0 to 1; None of no values."""
        limit = limit_ns << _WEIGHT_BITS
        total = below = 0
        for _, entries in self._seconds:
            total += sum(entry & _MAX_WEIGHT for entry in entries)
            below += sum(entry & _MAX_WEIGHT for entry in entries if entry < limit)
        return below / total if total else None

    def of_second(self, second: int) -> Quantiles | None:
        """Of one of the newest seconds."""
        for at, entries in reversed(self._seconds):
            if at <= second:
                return _quantiles(entries) if at == second else None
        return None

    def freeze(self) -> WindowFrame:
        return WindowFrame([s for s, _ in self._seconds], [pack(e) for _, e in self._seconds])

    def thaw(self, frame: WindowFrame) -> None:
        """Raises: ValueError when the frame is not one of `freeze`."""
        columns = (unpack(data, "q") for data in frame.entries)
        self._seconds.extend(zip(frame.seconds, columns, strict=True))
        self._version += 1


def _quantiles(entries: Iterable[int]) -> Quantiles | None:
    ordered = sorted(entries)
    return Quantiles.of_weighted(
        [entry >> _WEIGHT_BITS for entry in ordered], [entry & _MAX_WEIGHT for entry in ordered]
    )
