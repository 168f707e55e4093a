"""The newest changes of pages, from which one page's story is read."""

from __future__ import annotations

from array import array
from collections import deque
from itertools import chain
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
        self._entries: deque[PageEntry] = deque(maxlen=MAX_ENTRIES)

    def add(self, run: PageRun, t_ns: int) -> None:
        """A run whose operation is one of OPERATIONS."""
        entry = PageEntry(t_ns, _NUMBERS[run.op], run.page, run.count, run.request)
        self._entries.append(entry)

    def story(self, page: int) -> list[PageEntry]:
        """What happened to `page`, newest first, as far back as is kept."""
        return [e for e in reversed(self._entries) if e.page <= page < e.page + e.num_pages]

    def freeze(self) -> bytes:
        return pack(array("q", chain.from_iterable(self._entries)))

    def thaw(self, data: bytes) -> None:
        """Raises: ValueError when `data` holds no whole entries, or an unknown operation."""
        numbers = iter(unpack(data, "q"))
        entries = list(map(PageEntry, *[numbers] * len(PageEntry._fields)))
        if len(data) % (8 * len(PageEntry._fields)):
            raise ValueError("a journal of pages is cut short")
        if any(not 0 <= entry.op < len(OPERATIONS) for entry in entries):
            raise ValueError("a page was changed in a way that does not exist")
        self._entries.clear()
        self._entries.extend(entries)
