"""Values of the newest seconds, kept one by one so that their quantiles are exact."""

from __future__ import annotations

from array import array
from collections import deque
from itertools import chain
from typing import Final

import msgspec

from profiler.folds.packing import pack, unpack
from profiler.folds.quantiles import Quantiles
from profiler.folds.ranking import MAX_WEIGHT, WEIGHT_BITS, Ranking

_MAX_VALUE: Final = (1 << 42) - 1
# So many entries are put in their places, and taken out, one by one: 1 to 2 us each among 2,700, of
# which sorting all takes 190 (a shared EPYC). Of more, sorting is less work.
_FEW: Final = 64


class WindowFrame(msgspec.Struct, array_like=True):
    seconds: list[int]
    entries: list[bytes]


class Window:
    """Nanoseconds, up to 73 minutes each, of the `span_s` newest seconds including the one that
    runs. For whoever asks for quantiles several times a second, the values stay ranked."""

    def __init__(self, span_s: int) -> None:
        self.span_s = span_s
        self._seconds: deque[tuple[int, array[int]]] = deque()
        self._ranking: Ranking | None = None
        self._unranked: list[int] = []
        self._version = 0
        self._known: tuple[int, Quantiles | None] = (-1, None)

    def add(self, second: int, value_ns: int, weight: int = 1) -> None:
        if not self._seconds or self._seconds[-1][0] != second:
            self._close_newest()
            self._seconds.append((second, array("q")))
        value = min(max(0, value_ns), _MAX_VALUE)
        entry = value << WEIGHT_BITS | min(weight, MAX_WEIGHT)
        self._seconds[-1][1].append(entry)
        if self._ranking is not None:
            self._unranked.append(entry)
        self._version += 1

    def _close_newest(self) -> None:
        """Sort the newest second, now that it is over: ranking the whole window is then a merge
        of runs, which takes half the time."""
        if self._seconds:
            second, entries = self._seconds[-1]
            self._seconds[-1] = (second, array("q", sorted(entries)))

    def trim(self, second: int) -> None:
        """Forget what is too old at `second`."""
        while self._seconds and self._seconds[0][0] <= second - self.span_s:
            _, entries = self._seconds.popleft()
            self._unrank(entries)
            self._version += 1

    def _unrank(self, entries: array[int]) -> None:
        if self._ranking is None:
            return
        if max(len(entries), len(self._unranked)) > _FEW:
            self._ranking = None
            return
        ranking = self._ranked()
        for entry in entries:
            ranking.remove(entry)

    def _ranked(self) -> Ranking:
        """All values that there are."""
        if self._ranking is None or len(self._unranked) > _FEW:
            self._ranking = Ranking(chain.from_iterable(e for _, e in self._seconds))
        else:
            for entry in self._unranked:
                self._ranking.add(entry)
        self._unranked.clear()
        return self._ranking

    def quantiles(self) -> Quantiles | None:
        """Of the whole window, in ns; None when nothing happened in it."""
        if self._known[0] != self._version:
            self._known = (self._version, self._ranked().quantiles())
        return self._known[1]

    def share_below(self, limit_ns: int) -> float | None:
        """Of the window's values, by weight, those below `limit_ns`: 0 to 1; None of no values."""
        limit = limit_ns << WEIGHT_BITS
        total = below = 0
        for _, entries in self._seconds:
            total += sum(entry & MAX_WEIGHT for entry in entries)
            below += sum(entry & MAX_WEIGHT for entry in entries if entry < limit)
        return below / total if total else None

    def of_second(self, second: int) -> Quantiles | None:
        """Of one of the newest seconds."""
        for at, entries in reversed(self._seconds):
            if at <= second:
                return Ranking(entries).quantiles() if at == second else None
        return None

    def freeze(self) -> WindowFrame:
        return WindowFrame([s for s, _ in self._seconds], [pack(e) for _, e in self._seconds])

    def thaw(self, frame: WindowFrame) -> None:
        """Raises: ValueError when the frame is not one of `freeze`."""
        self._ranking = None
        columns = (unpack(data, "q") for data in frame.entries)
        self._seconds.extend(zip(frame.seconds, columns, strict=True))
        self._version += 1
