"""The KV tab of another server whose KV events we hear: its prefix cache, block by block."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.kv import SIDE_FROM
from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.blockfacts import BlockFacts
from llmtop.widgets.blockmap import BlockMap
from llmtop.widgets.sharedprefixes import SharedPrefixes

_SIDE_WIDTH: Final = 44
_FACTS_HEIGHT: Final = 12


class BlocksPage(Page):
    """Wide: the map with its facts at the right. Narrow: the facts below it."""

    DEFAULT_CSS = "BlocksPage Container { width: 1fr; height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield BlockMap(id="blocks-map")
        with Container(id="blocks-side"):
            yield BlockFacts(id="blocks-facts")
            yield SharedPrefixes(id="blocks-prefixes", top="├┤")

    def lay_out(self, width: int, height: int) -> None:
        wide = width >= SIDE_FROM
        side, facts = self.query_one("#blocks-side"), self.query_one("#blocks-facts")
        self.styles.layout = "horizontal" if wide else "vertical"
        side.styles.layout = "vertical" if wide else "horizontal"
        side.styles.width = _SIDE_WIDTH if wide else "1fr"
        side.styles.height = "1fr" if wide else min(_FACTS_HEIGHT, max(7, height // 2))
        facts.styles.height = _FACTS_HEIGHT if wide else "1fr"
        for panel in self.panels():
            panel.compact = not wide
            panel.bottom = "└┘" if panel.id in ("blocks-map", "blocks-prefixes") else ""

    @property
    def _map(self) -> BlockMap:
        return self.query_one(BlockMap)

    def move(self, view: View, by: int) -> None:
        self._go(view, by * self._map.grid.pages_per_line)

    def slide(self, view: View, by: int) -> None:
        self._go(view, by * self._map.grid.per_cell)

    def _go(self, view: View, by: int) -> None:
        last = max(0, view.state.blocks.num_numbers - 1)
        view.model.cursor_page = max(0, min(last, view.model.cursor_page + by))

    def on_block_map_picked(self, message: BlockMap.Picked) -> None:
        view = self._map.painted_view
        if view is not None:
            view.model.cursor_page = message.block
            self.post_message(self.Chosen())
