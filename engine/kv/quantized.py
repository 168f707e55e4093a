"""Pages that are packed when they are full, beside wide ones that are being written."""

from __future__ import annotations

from collections.abc import Iterable

from engine.invariants import require
from engine.kv.cache import BlockTable, PagedKVCache, Span
from engine.kv.chain import PageChain
from engine.kv.packed_plan import PackedPlan
from engine.kv.page_forms import Form, PageForms
from engine.kv.wide import WidePages
from profiler.events import PageForm


class QuantizedKVCache(PagedKVCache):
    """Packed pages, counted, shared and evicted as any; each has a record from its allocation on.

    A page that is being written has a wide page too, and gives it back once it is packed. The first
    `num_sinks` pages of a sequence keep theirs until they are free: attention reads them there.
    Block table entries from the number of packed pages on are wide pages. `root` begins the keys of
    the prefix cache: pages of one format are never taken for those of another.
    """

    def __init__(
        self,
        num_pages: int,
        block_size: int,
        enable_prefix_caching: bool,
        num_wide: int,
        plan: PackedPlan,
    ) -> None:
        super().__init__(num_pages, block_size, enable_prefix_caching, self._on_free)
        self.root = plan.root
        self.wide = WidePages(num_wide)
        self._forms = PageForms(num_pages, self.pool.runs)
        self.num_sinks = plan.num_sinks
        self.max_running = plan.num_seqs_with(num_wide)

    @property
    def num_wide_used(self) -> int:
        return self.wide.num_used

    def forms(self) -> tuple[PageForm, ...]:
        return self._forms.spans()

    def open(
        self, request: int, chain: PageChain, num_tokens: int, prefix: list[int]
    ) -> BlockTable:
        table = super().open(request, chain, num_tokens, prefix)
        table.entries, table.targets = [], {}
        self._enter(table)
        return table

    def extend(self, table: BlockTable) -> bool:
        if not super().extend(table):
            return False
        self._enter(table)
        return True

    def write(self, spans: Iterable[Span]) -> list[tuple[int, int]]:
        """There is always a wide page: the cache was made with as many as the largest steps take.

        Raises: IndexError if it was not.
        """
        seals: list[tuple[int, int]] = []
        size = self.block_size
        for table, start, num_tokens in spans:
            targets, first, end = _targets(table), start // size, start + num_tokens
            for index in range(first, -(-end // size)):
                if index not in targets:
                    targets[index] = self._widen(table.pages[index], "hot", table.request)
            for index in range(max(first, self.num_sinks), end // size):
                seals.append((targets[index], table.pages[index]))
        return seals

    def settle(self, table: BlockTable, num_computed: int) -> None:
        super().settle(table, num_computed)
        targets = _targets(table)
        for index in [i for i in targets if (i + 1) * self.block_size <= num_computed]:
            del targets[index]
            if index >= self.num_sinks:
                self.wide.give_back(table.pages[index])
                self._forms.turn(table.pages[index], "packed", table.request)

    def check(self) -> None:
        super().check()
        self.wide.check()
        needed = set(self.pool.cached_pages())
        for table in self._tables.values():
            needed |= {*table.pages[: self.num_sinks], *map(table.pages.__getitem__, table.targets)}
        require(self.wide.pages() <= needed, "a wide page is kept for nothing")
        require(self.wide.pages() == self._forms.wide_pages(), "a wide page's form is another")
        for table in self._tables.values():
            require(len(table.entries) == len(table.pages), "a table lacks an entry")
            for index, wide in _targets(table).items():
                require(self.wide.of(table.pages[index]) == wide, "a page lost its wide page")

    def _enter(self, table: BlockTable) -> None:
        """Entries for the pages that have none; sinks get their wide pages here, to keep."""
        for index in range(len(table.entries), len(table.pages)):
            page = table.pages[index]
            if index < self.num_sinks:
                wide = self._widen(page, "sink", table.request)
                table.entries.append(self.pool.num_pages + wide)
            else:
                table.entries.append(page)

    def _widen(self, page: int, form: Form, request: int) -> int:
        """The page's wide page; where none is free, the oldest cached sink makes room."""
        wide = self.wide.of(page)
        if wide is not None:
            return wide
        if not self.wide.num_free:
            self.pool.evict(self._oldest_sink())
        self._forms.turn(page, form, request)
        return self.wide.take(page)

    def _oldest_sink(self) -> int | None:
        cached = self.pool.cached_pages()
        return next((page for page in cached if self.wide.of(page) is not None), None)

    def _on_free(self, page: int) -> None:
        self.wide.give_back(page)
        self._forms.clear(page)


def _targets(table: BlockTable) -> dict[int, int]:
    assert isinstance(table.targets, dict)
    return table.targets
