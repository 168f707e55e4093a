"""Block tables of the running requests over one pool of pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from engine.invariants import require
from engine.kv.chain import ROOT, PageChain
from engine.kv.pages import PagePool
from engine.kv.prefix import PrefixCache
from profiler.events import PageForm


class BlockTable:
    """The pages of one request in order; token i lies in `pages[i // block_size]`.

    `entries` are the pages as attention reads them, `targets` those that tokens are written to, by
    the page's place in the table. The first `num_settled` pages are full and have been offered to
    the prefix cache.
    """

    __slots__ = ("chain", "entries", "num_settled", "pages", "request", "targets")

    def __init__(self, request: int, chain: PageChain) -> None:
        self.request = request
        self.chain = chain
        self.pages: list[int] = []
        self.entries = self.pages
        self.targets: list[int] | dict[int, int] = self.pages
        self.num_settled = 0


# Tokens that a step computes: of which table, from where, how many.
Span = tuple[BlockTable, int, int]


class PagedKVCache:
    """Gives pages to requests and takes them back. The tensors behind them are the runner's.

    A page is written by the one request that allocated it, and only until it is sealed. That is
    why `find_prefix` never gives all of a context: at least its last token has to be computed,
    and its page is computed into a fresh page instead of written over in a shared one.
    """

    root = ROOT  # of the prefix cache's keys

    def __init__(
        self,
        num_pages: int,
        block_size: int,
        enable_prefix_caching: bool = True,
        on_free: Callable[[int], None] | None = None,
    ) -> None:
        self.block_size = block_size
        self.max_running = num_pages  # tables that may be open at once
        self.prefix = PrefixCache()
        self.pool = PagePool(num_pages, self.prefix.forget, on_free)
        self._enable_prefix_caching = enable_prefix_caching
        self._tables: dict[int, BlockTable] = {}

    @property
    def num_wide_used(self) -> int:
        """Wide pages that pages have beside them, where pages are packed."""
        return 0

    def forms(self) -> tuple[PageForm, ...]:
        """The form of every page that has one, where pages are packed."""
        return ()

    def pages_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def shareable(self, num_tokens: int) -> int:
        """How many of `num_tokens` a cached prefix can give at most: whole pages, not all."""
        if not self._enable_prefix_caching:
            return 0
        return (num_tokens - 1) // self.block_size * self.block_size

    def find_prefix(self, chain: PageChain, num_tokens: int) -> list[int]:
        """The pages that hold the longest cached prefix of `num_tokens`."""
        pages: list[int] = []
        for index in range(self.shareable(num_tokens) // self.block_size):
            page = self.prefix.find(chain.link(index))
            if page is None:
                break
            pages.append(page)
        return pages

    def available_beside(self, prefix: list[int]) -> int:
        """Pages that can be allocated once the pages of `prefix` are taken."""
        return self.pool.num_available - sum(map(self.pool.is_cached, prefix))

    def open(
        self, request: int, chain: PageChain, num_tokens: int, prefix: list[int]
    ) -> BlockTable:
        """A table with room for `num_tokens`, beginning with the shared pages of `prefix`.

        The caller has made sure that enough pages are available.
        """
        table = BlockTable(request, chain)
        for page in prefix:
            self.pool.share(page, request)
        table.pages.extend(prefix)
        table.num_settled = len(prefix)
        for _ in range(self.pages_for(num_tokens) - len(prefix)):
            table.pages.append(self.pool.allocate(request))
        self._tables[request] = table
        if self._enable_prefix_caching:
            self.prefix.count(num_tokens, len(prefix) * self.block_size)
        return table

    def extend(self, table: BlockTable) -> bool:
        """Whether there was one more page for the table."""
        if not self.pool.num_available:
            return False
        table.pages.append(self.pool.allocate(table.request))
        return True

    def write(self, spans: Iterable[Span]) -> list[tuple[int, int]]:
        """Readies pages for what a step writes; the (wide, packed) pages that it is to seal."""
        return []

    def settle(self, table: BlockTable, num_computed: int) -> None:
        """Seals the pages that `num_computed` tokens have filled, unless a twin is sealed already.

        A full page with a sealed twin stays private and becomes free with its last reference.
        """
        num_full = num_computed // self.block_size
        if not self._enable_prefix_caching:
            return
        for index in range(table.num_settled, num_full):
            page = table.pages[index]
            if self.prefix.insert(table.chain.link(index), page):
                self.pool.seal(page)
        table.num_settled = max(table.num_settled, num_full)

    def close(self, table: BlockTable) -> None:
        """Gives every page of the table back."""
        for page in reversed(table.pages):
            self.pool.release(page, table.request)
        del self._tables[table.request]

    def check(self) -> None:
        """Raises: InvariantError unless every page is in one state and every reference counted."""
        references = Counter(page for table in self._tables.values() for page in table.pages)
        self.pool.check(references, self.prefix.findable())
        for table in self._tables.values():
            require(len(set(table.pages)) == len(table.pages), "a table holds a page twice")
            require(table.num_settled <= len(table.pages), "a table settled pages it lacks")
