"""The KV tab: every page of the cache, and who holds it."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.holders import Holders
from llmtop.widgets.kvpacking import PACKING_HEIGHT, KvPackingPanel
from llmtop.widgets.pagecells import MAX_PER_CELL
from llmtop.widgets.pagefacts import PageFacts
from llmtop.widgets.pagemap import PageMap
from llmtop.widgets.prefixfacts import PrefixFacts
from llmtop.widgets.prefixtree import PrefixTree

SIDE_FROM: Final = 100
_SIDE_WIDTH: Final = 42
_FACTS_HEIGHT: Final = 6
_STORY_HEIGHT: Final = 5
_PREFIX_HEIGHT: Final = 10
_TREE_FROM: Final = 34  # lines of the page


class KvPage(Page):
    """Wide: the map with its facts at the right. Narrow: the facts below it. What packing saves is
    there where pages are packed."""

    DEFAULT_CSS = "KvPage Container { width: 1fr; height: 1fr; }"

    _packs = False

    def compose(self) -> ComposeResult:
        yield PageMap(id="kv-map")
        with Container(id="kv-side"):
            with Container(id="kv-facts"):
                yield PageFacts(id="kv-page")
                yield PrefixFacts(id="kv-prefix", top="├┤")
            with Container(id="kv-held"):
                yield KvPackingPanel(id="kv-packing", top="├┤")
                yield PrefixTree(id="kv-tree", top="├┤")
                yield Holders(id="kv-holders", top="├┤")

    def show(self, view: View) -> None:
        session = view.state.session
        packs = session is not None and session.packing is not None
        if packs != self._packs and not self.maximised:
            self._packs = packs
            self.lay_out(self.size.width, self.size.height)
        super().show(view)

    def lay_out(self, width: int, height: int) -> None:
        wide = width >= SIDE_FROM
        side, facts = self.query_one("#kv-side"), self.query_one("#kv-facts")
        self.styles.layout = "horizontal" if wide else "vertical"
        side.styles.layout = "vertical" if wide else "horizontal"
        side.styles.width = _SIDE_WIDTH if wide else "1fr"
        below = min(_FACTS_HEIGHT + _PREFIX_HEIGHT, max(7, height // 2))
        side.styles.height = "1fr" if wide else below
        page_height = _FACTS_HEIGHT + _STORY_HEIGHT * wide
        facts.styles.height = page_height + _PREFIX_HEIGHT if wide else "1fr"
        self.query_one("#kv-page").styles.height = page_height
        packing = self.query_one("#kv-packing")
        packing.display = self._packs
        packing.styles.height = PACKING_HEIGHT if wide else PACKING_HEIGHT - 1
        tree_from = _TREE_FROM + PACKING_HEIGHT // 2 * self._packs
        self.query_one("#kv-tree").display = wide and height >= tree_from
        for panel in self.panels():
            panel.compact = not wide
            panel.bottom = "└┘" if panel.id in ("kv-map", "kv-holders") else ""

    @property
    def _map(self) -> PageMap:
        return self.query_one(PageMap)

    def move(self, view: View, by: int) -> None:
        self._go(view, by * self._map.grid.pages_per_line)

    def slide(self, view: View, by: int) -> None:
        self._go(view, by * self._map.grid.per_cell)

    def _go(self, view: View, by: int) -> None:
        last = max(0, view.state.pages.num_pages - 1)
        view.model.cursor_page = max(0, min(last, view.model.cursor_page + by))

    def zoom(self, view: View, by: int) -> None:
        per_cell = max(1, view.model.pages_per_cell)
        wanted = per_cell // 2 if by > 0 else per_cell * 2
        most = min(MAX_PER_CELL, max(1, view.state.pages.num_pages))
        view.model.pages_per_cell = max(1, min(most, wanted))

    def open(self, view: View) -> None:
        """Show the request that owns the page under the cursor."""
        page = view.model.cursor_page
        if page >= view.state.pages.num_pages:
            return
        owner = view.state.pages.owners[page]
        if view.state.requests.get(owner) is not None:
            view.model.selected = owner
            view.model.open_request()

    def on_page_map_picked(self, message: PageMap.Picked) -> None:
        view = self._map.painted_view
        if view is not None:
            view.model.cursor_page = message.page
            self.post_message(self.Chosen())
