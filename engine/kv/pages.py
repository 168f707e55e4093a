"""Which page is free, used or cached, and by whom: numbers only, no tensors."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

from engine.invariants import require
from engine.kv.runs import RunLog
from profiler.events import PageSpan


class PagePool:
    """A page is in exactly one state. Free: nobody references it and it holds nothing. Used: one
    reference per block table that holds it. Cached: sealed and unreferenced, to be used again or,
    oldest first, evicted.

    A page id means the same page in every layer. `on_evict` is called with a page that stops
    being findable, before anyone else can get it, `on_free` with one that holds nothing any more.
    Changes collect in `runs`.
    """

    def __init__(
        self,
        num_pages: int,
        on_evict: Callable[[int], None],
        on_free: Callable[[int], None] | None = None,
    ) -> None:
        self.num_pages = num_pages
        self.runs = RunLog()
        self._on_evict = on_evict
        self._on_free = on_free
        # A stack: pages released tail first come back head first, so tables stay consecutive.
        self._free = list(range(num_pages - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._refs = array("q", bytes(8 * num_pages))
        self._owner = array("q", bytes(8 * num_pages))
        self._sealed = bytearray(num_pages)

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_cached(self) -> int:
        return len(self._cached)

    @property
    def num_available(self) -> int:
        """Pages that `allocate` can still give: free ones, and cached ones by evicting them."""
        return len(self._free) + len(self._cached)

    @property
    def num_used(self) -> int:
        return self.num_pages - self.num_available

    def is_cached(self, page: int) -> bool:
        return page in self._cached

    def allocate(self, request: int) -> int:
        """A page with one reference, owned by `request`. Raises: IndexError with none available."""
        if not self._free:
            self.evict(next(iter(self._cached), None))
        page = self._free.pop()
        self._refs[page] = 1
        self._owner[page] = request
        self.runs.add("alloc", page, request)
        return page

    def share(self, page: int, request: int) -> None:
        """One more reference to a sealed page."""
        if self._refs[page] == 0:
            del self._cached[page]
        self._refs[page] += 1
        self.runs.add("share", page, request)

    def seal(self, page: int) -> None:
        """From now on the page is immutable, and kept when its last reference goes."""
        self._sealed[page] = 1
        self.runs.add("seal", page, self._owner[page])

    def release(self, page: int, request: int) -> None:
        """One reference less. Release a table's last page first: it is then evicted first."""
        self.runs.add("release", page, request)
        self._refs[page] -= 1
        if self._refs[page]:
            return
        if self._sealed[page]:
            self._cached[page] = None
        else:
            self._to_free(page)

    def cached_pages(self) -> Iterator[int]:
        """The oldest first."""
        return iter(self._cached)

    def evict(self, page: int | None) -> None:
        """Makes a cached page free. Raises: IndexError if there is none."""
        if page is None:
            raise IndexError("no page is free or cached")
        del self._cached[page]
        self._on_evict(page)
        self.runs.add("evict", page, self._owner[page])
        self._sealed[page] = 0
        self._to_free(page)

    def spans(self) -> tuple[PageSpan, ...]:
        """Every page that is not free, neighbours in the same state merged.

        Over arrays, because a GPU has 100,000 pages and the next step waits for this.
        """
        if not self.num_pages:
            return ()
        facts = np.stack([np.frombuffer(column, np.int64) for column in (self._owner, self._refs)])
        sealed = np.frombuffer(self._sealed, np.uint8)
        changes = (facts[:, 1:] != facts[:, :-1]).any(0) | (sealed[1:] != sealed[:-1])
        firsts = np.concatenate(([0], np.flatnonzero(changes) + 1))
        counts = np.diff(np.append(firsts, self.num_pages))
        kept = (facts[1, firsts] > 0) | (sealed[firsts] > 0)
        firsts, counts = firsts[kept], counts[kept]
        owners, refs = facts[:, firsts].tolist()
        columns = (firsts.tolist(), counts.tolist(), owners, refs, sealed[firsts].tolist())
        return tuple(PageSpan(p, n, o, r, bool(s)) for p, n, o, r, s in zip(*columns, strict=True))

    def check(self, references: dict[int, int], findable: set[int]) -> None:
        """Compares with the block tables' own counts and the pages the prefix cache knows.

        Raises: InvariantError.
        """
        free = set(self._free)
        require(len(free) == len(self._free), "a page is twice in the free list")
        require(free.isdisjoint(self._cached), "a page is both free and cached")
        for page in range(self.num_pages):
            refs, sealed = self._refs[page], bool(self._sealed[page])
            require(refs == references.get(page, 0), f"page {page}: {refs} references recorded")
            states = (page in free) + (page in self._cached) + (refs > 0)
            require(states == 1, f"page {page} is in {states} states")
            require(sealed == (page in findable), f"page {page}: sealed {sealed}, findable not so")
            require(not (sealed and page in free), f"page {page} is free and sealed")
            require(sealed or page not in self._cached, f"page {page} is cached but not sealed")

    def _to_free(self, page: int) -> None:
        self._owner[page] = 0
        self._free.append(page)
        if self._on_free is not None:
            self._on_free(page)
