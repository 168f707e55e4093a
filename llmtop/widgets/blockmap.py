"""The blocks in another server's prefix cache, with a cursor to ask about one of them."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.message import Message

from llmtop.format import grouped
from llmtop.viewmodel import View
from llmtop.widgets.blockcells import LEGEND, block_lines
from llmtop.widgets.pagecells import MAX_PER_CELL, Grid, grid_for
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from llmtop.widgets.sharedprefixes import PrefixesOf
from llmtop.widgets.wrapping import wrapped
from profiler.folds.hashedblocks import HashedBlocks

_WHY_EMPTY: Final = {
    "connecting": "no connection to the server's KV events yet",
    "disconnected": "the connection to the server's KV events is lost: what its cache holds is not "
    "known until it is there again",
}


class BlockMap(Panel):
    """One cell is one block, or as many as it takes to show all of them."""

    about = (
        "The full blocks that can be found by their prefix hash, as the server's KV events tell. "
        "Blocks that are not full and those that requests have without a hash are not among them. "
        "A block's number is ours, in the order in which they came, and no slot of the server."
    )
    own_keys = (
        "left: previous block",
        "right: next block",
        "up: a line of cells up",
        "down: a line of cells down",
    )

    class Picked(Message):
        """A cell was clicked: `block` is the first of it."""

        def __init__(self, block: int) -> None:
            super().__init__()
            self.block = block

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._prefixes = PrefixesOf()
        self.grid = Grid(0, 1, 1, 0, 0, 0)

    def title(self, view: View) -> Row:
        per_cell = self.grid.per_cell
        scale = "1 cell = 1 block" if per_cell == 1 else f"1 cell = {per_cell} blocks"
        return (("Hashed blocks ", "title"), (scale, "value"))

    def note(self, view: View) -> str:
        blocks = view.state.blocks
        if blocks.whole:
            return f"{grouped(blocks.num_blocks())}, all of the cache"
        return f"{grouped(blocks.num_blocks())}, older ones are not known"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        self.grid = self._grid(view.state.blocks, view.model.cursor_page)
        return super().rows(view, width, height)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        blocks = view.state.blocks
        if not blocks.num_distinct:
            return [((line, "dim"),) for line in wrapped(_empty(blocks), width)]
        shared = (block for prefix in self._prefixes.of(blocks) for block in prefix.blocks)
        lines = block_lines(blocks, self.grid, view.model.cursor_page, shared)
        lines += [()] * (height - 1 - len(lines))
        return [*lines, LEGEND]

    def _grid(self, blocks: HashedBlocks, cursor: int) -> Grid:
        """The finest one that shows all blocks."""
        width, height = self.inner
        per_cell = 1
        while True:
            grid = grid_for(blocks.num_numbers, width, height - 1, per_cell, cursor, 0)
            if grid.num_lines <= height - 1 or per_cell >= MAX_PER_CELL:
                return grid
            per_cell *= 2

    def on_click(self, event: events.Click) -> None:
        left, top = self.body_offset()
        block = self.grid.page_at(event.x - left, event.y - top)
        if block is not None:
            self.post_message(self.Picked(block))


def _empty(blocks: HashedBlocks) -> str:
    begun = blocks.begun
    reason = "connecting" if begun is None else begun.reason
    if begun is not None and reason in _WHY_EMPTY and len(blocks.ranks) > 1:
        return f"rank {begun.rank}: {_WHY_EMPTY[reason]}"
    if reason in _WHY_EMPTY:
        return _WHY_EMPTY[reason]
    if blocks.whole:
        return "the prefix cache is empty"
    return "no block was stored since this looks: the first comes when a prompt fills one"
