"""KV pages as cells: which page lies where, and how it looks there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from llmtop.widgets.ownercolours import NUM_COLOURS, OWN, PICKED, SHARED
from llmtop.widgets.pagelooks import MANY, Look
from llmtop.widgets.rows import Row, Span, joined_within
from profiler.folds.pages import CACHED, FREE, OPEN, USED, Pages

_PLAIN: Final = {FREE: "·", OPEN: "▄", USED: "█", CACHED: "░"}
_FREE_CELL: Final = ("·", "free")
_PRIVATE: Final = {state: tuple((glyph, own) for own in OWN) for state, glyph in _PLAIN.items()}
_HEIGHTS: Final = "▁▂▃▄▅▆▇█"
_LABEL: Final = 2

MAX_PER_CELL: Final = 4096


@dataclass(frozen=True, slots=True)
class Grid:
    """Where pages lie: `per_row` cells a line, `per_cell` pages a cell, from line `first_line` on.

    `label` columns at the left of each line hold the number of its first page.
    """

    num_pages: int
    per_cell: int
    per_row: int
    first_line: int
    height: int
    label: int

    @property
    def pages_per_line(self) -> int:
        return self.per_row * self.per_cell

    @property
    def num_lines(self) -> int:
        """Lines that all pages take."""
        return -(-self.num_pages // self.pages_per_line)

    @property
    def shown(self) -> range:
        """The pages on the screen."""
        first = self.first_line * self.pages_per_line
        last = min(self.num_pages, (self.first_line + self.height) * self.pages_per_line)
        return range(first, max(first, last))

    def page_at(self, x: int, y: int) -> int | None:
        """The first page of the cell in column `x` of line `y` on the screen."""
        cell = x - self.label
        if not (0 <= cell < self.per_row and 0 <= y < self.height):
            return None
        page = (self.first_line + y) * self.pages_per_line + cell * self.per_cell
        return page if page < self.num_pages else None


def grid_for(
    num_pages: int, width: int, height: int, per_cell: int, cursor: int, first_line: int
) -> Grid:
    """A grid in `width` x `height` cells, scrolled from `first_line` as little as shows `cursor`.

    Lines hold a multiple of eight cells, so that page numbers are easy to find.
    """
    label = len(str(max(0, num_pages - 1))) + _LABEL
    room = max(1, width - label)
    per_row = room - room % 8 if room >= 8 else room
    per_line = per_row * per_cell
    num_lines = -(-num_pages // per_line)
    at = cursor // per_line
    first = max(at - height + 1, min(first_line, at))
    first = max(0, min(first, num_lines - height))
    return Grid(num_pages, per_cell, per_row, first, max(0, height), label)


def map_lines(
    pages: Pages,
    grid: Grid,
    cursor: int,
    picked: Collection[int],
    look: Look | None = None,
    t_ns: int = 0,
) -> list[Row]:
    """The grid as rows, by owner or as `look` sees it at `t_ns`. The cell of page `cursor` and the
    cells of `picked` pages stand out."""
    lit = {page // grid.per_cell for page in picked}
    rows: list[Row] = []
    cells: list[Span]
    for line in range(grid.first_line, min(grid.first_line + grid.height, grid.num_lines)):
        first = line * grid.pages_per_line
        last = min(grid.num_pages, first + grid.pages_per_line)
        groups = range(first, last, grid.per_cell)
        if look is not None:
            cells = [look(pages, at, min(last, at + grid.per_cell), t_ns) for at in groups]
        elif grid.per_cell == 1:
            cells = _page_cells(pages, first, last, picked)
        else:
            cells = [_group_cell(pages, at, min(last, at + grid.per_cell)) for at in groups]
        if lit and (look is not None or grid.per_cell > 1):
            cells = [
                (glyph, "select") if at // grid.per_cell in lit else (glyph, role)
                for at, (glyph, role) in zip(groups, cells, strict=True)
            ]
        if first <= cursor < last:
            at = (cursor - first) // grid.per_cell
            cells[at] = (cells[at][0], "cursor")
        rows.append(((f"{first:>{grid.label - 1}} ", "dim"), *cells))
    return rows


def pool_column(pages: Pages, grid: Grid) -> list[Span]:
    """One cell a line: the share of pages in use in each part of the whole pool, the part that
    `grid` shows on a ground of its own. Nothing when all of it is shown."""
    if len(grid.shown) == grid.num_pages or not grid.height:
        return []
    column: list[Span] = []
    for line in range(grid.height):
        first = line * grid.num_pages // grid.height
        last = max(first + 1, (line + 1) * grid.num_pages // grid.height)
        glyph, role = _share_cell(pages.states, first, last)
        inside = first < grid.shown.stop and last > grid.shown.start
        column.append((glyph, "select" if inside else role))
    return column


def _page_cells(pages: Pages, first: int, last: int, picked: Collection[int]) -> list[Span]:
    cells: list[Span] = []
    columns = zip(
        range(first, last),
        pages.states[first:last],
        pages.owners[first:last],
        pages.refs[first:last],
        strict=True,
    )
    for page, state, owner, refs in columns:
        if state == FREE:
            cells.append(_FREE_CELL)
        elif page in picked:
            glyph = _PLAIN.get(state) or _digit(refs)
            cells.append((glyph, PICKED[owner % NUM_COLOURS]))
        elif refs > 1:
            cells.append((_digit(refs), SHARED[owner % NUM_COLOURS]))
        else:
            cells.append(_PRIVATE[state][owner % NUM_COLOURS])
    return cells


def _digit(refs: int) -> str:
    return str(refs) if refs < 10 else MANY


def _group_cell(pages: Pages, first: int, last: int) -> Span:
    """Height is the share of pages that a request references; colour the owner's if it is one."""
    glyph, role = _share_cell(pages.states, first, last)
    if role != "text":
        return glyph, role
    owners = {
        owner
        for state, owner in zip(pages.states[first:last], pages.owners[first:last], strict=True)
        if state not in (FREE, CACHED)
    }
    return glyph, OWN[owners.pop() % NUM_COLOURS] if len(owners) == 1 else "text"


def _share_cell(states: bytearray, first: int, last: int) -> Span:
    num_free, num_cached = states.count(FREE, first, last), states.count(CACHED, first, last)
    referenced = last - first - num_free - num_cached
    if not referenced:
        return ("░", "cached") if num_cached else ("·", "free")
    return _HEIGHTS[max(0, -(-8 * referenced // (last - first)) - 1)], "text"


def legend(per_cell: int, width: int) -> Row:
    """What the glyphs and colours of the map mean, as much of it as there is room for."""
    if per_cell > 1:
        return _legend(
            width,
            (("▁▄█", "text"), f"share of {per_cell} pages used"),
            (("░", "cached"), "only cached"),
            (("·", "free"), "free"),
            (("colour", "own1"), "sole owner"),
        )
    long = f"shared by 3 ({MANY} 10 up)"
    return _legend(
        width,
        (("█", "own0"), "full"),
        (("▄", "own0"), "filling"),
        (("3", "own0shared"), long if width >= 76 else "shared"),
        (("░", "own0"), "cached"),
        (("·", "free"), "free"),
        (("colour", "own1"), "owner"),
    )


def _legend(width: int, *signs: tuple[Span, str]) -> Row:
    return joined_within([(sign, (f" {word}", "dim")) for sign, word in signs], width)
