"""Hashed blocks of another server as cells: what each is to the prompts that have it."""

from __future__ import annotations

from collections.abc import Iterable
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


def block_lines(blocks: HashedBlocks, grid: Grid, cursor: int, shared: Iterable[int]) -> list[Row]:
    """The grid as rows. `shared` are the blocks that prompts part behind; a cell of several blocks
    looks like the one of them that most depend on."""
    flags = bytearray(grid.num_pages)
    for block in shared:
        flags[block] = 1
    rows: list[Row] = []
    for line in range(grid.first_line, min(grid.first_line + grid.height, grid.num_lines)):
        first = line * grid.pages_per_line
        last = min(grid.num_pages, first + grid.pages_per_line)
        cells = [
            _cell(blocks, at, min(last, at + grid.per_cell), flags)
            for at in range(first, last, grid.per_cell)
        ]
        if first <= cursor < last:
            at = (cursor - first) // grid.per_cell
            cells[at] = (cells[at][0], "cursor")
        rows.append(((f"{first:>{grid.label - 1}} ", "dim"), *cells))
    return rows


def _cell(blocks: HashedBlocks, first: int, last: int, shared: bytearray) -> Span:
    # By slices and counts: 100,000 blocks one by one took 22 ms a picture, so 6 (EPYC).
    copies = blocks.copies[first:last]
    most = max(copies)
    if not most:
        return _NONE
    if shared.find(1, first, last) >= 0:
        return _SHARED
    if most > 1:
        return str(most) if most < 10 else _MANY, "used"
    return _LOOSE if _is_loose(blocks, first, last) else _OWN


def _is_loose(blocks: HashedBlocks, first: int, last: int) -> bool:
    if last - first > 1 and UNTOLD not in blocks.parents[first:last]:
        return False
    there = (at for at in range(first, last) if blocks.copies[at])
    return all(blocks.parent(at) == UNTOLD for at in there)
