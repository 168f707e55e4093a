"""Hashed blocks of another server as cells: what each is to the prompts that have it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from llmtop.widgets.pagecells import Grid
from llmtop.widgets.rows import Row, Span
from profiler.block_events import UNTOLD
from profiler.folds.hashedblocks import HashedBlocks

_NONE: Final[Span] = ("·", "free")
_OWN: Final[Span] = ("▒", "cached")
_SHARED: Final[Span] = ("█", "shared")
_LOOSE: Final[Span] = ("?", "dim")
_MANY: Final = "+"

LEGEND: Final[Row] = (
    _SHARED,
    (" before a fork  ", "dim"),
    ("2", "used"),
    (" copies  ", "dim"),
    _OWN,
    (" of one prompt  ", "dim"),
    _LOOSE,
    (" start unknown  ", "dim"),
    _NONE,
    (" none", "dim"),
)


def block_lines(
    blocks: HashedBlocks, grid: Grid, cursor: int, shared: Collection[int]
) -> list[Row]:
    """The grid as rows. `shared` are the blocks that prompts part behind; a cell of several blocks
    looks like the one of them that most depend on."""
    rows: list[Row] = []
    for line in range(grid.first_line, min(grid.first_line + grid.height, grid.num_lines)):
        first = line * grid.pages_per_line
        last = min(grid.num_pages, first + grid.pages_per_line)
        cells = [
            _cell(blocks, at, min(last, at + grid.per_cell), shared)
            for at in range(first, last, grid.per_cell)
        ]
        if first <= cursor < last:
            at = (cursor - first) // grid.per_cell
            cells[at] = (cells[at][0], "cursor")
        rows.append(((f"{first:>{grid.label - 1}} ", "dim"), *cells))
    return rows


def _cell(blocks: HashedBlocks, first: int, last: int, shared: Collection[int]) -> Span:
    there = [at for at in range(first, min(last, blocks.num_numbers)) if blocks.copies[at]]
    if not there:
        return _NONE
    if any(at in shared for at in there):
        return _SHARED
    copies = max(blocks.copies[at] for at in there)
    if copies > 1:
        return str(copies) if copies < 10 else _MANY, "used"
    return _LOOSE if all(blocks.parent(at) == UNTOLD for at in there) else _OWN
