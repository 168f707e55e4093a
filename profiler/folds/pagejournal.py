"""The newest changes of pages, from which one page's story is read."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import chain, repeat, starmap
from typing import Final, NamedTuple

from profiler.events import PageRun
from profiler.folds.packing import pack, unpack

MAX_ENTRIES: Final = 2048
OPERATIONS: Final = ("alloc", "share", "seal", "release", "evict", "widen", "keep", "pack")
_NUMBERS: Final = {op: number for number, op in enumerate(OPERATIONS)}


class PageEntry(NamedTuple):
    """`op` (a number into OPERATIONS) happened to `num_pages` pages from `page` on."""

    t_ns: int
    op: int
    page: int
    num_pages: int
    request: int


class PageJournal:
    """The newest MAX_ENTRIES changes, oldest first: older ones are forgotten."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, PageRun]] = deque(maxlen=MAX_ENTRIES)

    def add(self, runs: Sequence[PageRun], t_ns: int) -> None:
        """Runs whose operations are among OPERATIONS."""
        self._runs.extend(zip(repeat(t_ns), runs, strict=False))

    def story(self, page: int) -> list[PageEntry]:
        """What happened to `page`, newest first, as far back as is kept."""
        return [
            _entry(t_ns, run)
            for t_ns, run in reversed(self._runs)
            if 0 <= page - run.page < run.count
        ]

    def freeze(self) -> bytes:
        return pack(array("q", chain.from_iterable(starmap(_entry, self._runs))))

    def thaw(self, data: bytes) -> None:
        """Raises: ValueError when `data` holds no whole entries, or an unknown operation."""
        numbers = iter(unpack(data, "q"))
        entries = list(map(PageEntry, *[numbers] * len(PageEntry._fields)))
        if len(data) % (8 * len(PageEntry._fields)):
            raise ValueError("a journal of pages is cut short")
        if any(not 0 <= entry.op < len(OPERATIONS) for entry in entries):
            raise ValueError("a page was changed in a way that does not exist")
        self._runs.clear()
        self._runs.extend((e.t_ns, PageRun(OPERATIONS[e.op], *e[2:])) for e in entries)


def _entry(t_ns: int, run: PageRun) -> PageEntry:
    return PageEntry(t_ns, _NUMBERS[run.op], run.page, run.count, run.request)
