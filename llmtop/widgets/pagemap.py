"""The KV cache page by page, with a cursor to ask about one of them."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.message import Message

from llmtop.format import grouped
from llmtop.viewmodel import View
from llmtop.widgets.chart import area
from llmtop.widgets.pagecells import Grid, grid_for, legend, map_lines, pool_column
from llmtop.widgets.pagelooks import LOOKS, look_legend
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row, fit_row, spread, width_of
from profiler.folds import seconds
from profiler.folds.pages import Pages
from profiler.state import SessionState

_HISTORY_FROM: Final = 7
_POOL_WIDTH: Final = 2
_POOL_LEGEND: Final[Row] = (("pool ▕", "dim"),)


class PageMap(Panel):
    """One cell is one page until the viewer zooms out; then the title says how many."""

    about = (
        "Every page of the KV cache, in order. A cell is one page, or as many as the title "
        "says; the line below says what its signs mean."
    )
    own_keys = (
        "left: previous cell of the map",
        "right: next cell of the map",
        "up: a line of cells up",
        "down: a line of cells down",
        "zoom-in",
        "zoom-out",
        "colour",
        "open: the request that owns the page",
    )
    wheel = ("move", 1)
    inside = "pages"

    class Picked(Message):
        """A cell was clicked: `page` is the first of it."""

        def __init__(self, page: int) -> None:
            super().__init__()
            self.page = page

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._first_line = 0
        self.grid = Grid(0, 1, 1, 0, 0, 0)

    def title(self, view: View) -> Row:
        session = view.state.session
        num_pages = view.state.pages.num_pages
        if view.state.upstream:
            return (("KV map", "title"),)
        per_cell = max(1, view.model.pages_per_cell)
        size = f" of {session.block_size} tokens" if session else ""
        scale = "1 cell = 1 page" if per_cell == 1 else f"1 cell = {per_cell} pages"
        return (
            ("KV map ", "title"),
            (grouped(num_pages), "value"),
            (f" pages{size}, ", "dim"),
            (scale, "value"),
        )

    def note(self, view: View) -> str:
        shown = self.grid.shown
        if not shown:
            return ""
        if len(shown) == self.grid.num_pages:
            return "all shown"
        return f"{shown.start} to {shown.stop - 1} shown"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        self.grid = self._grid(view)
        return super().rows(view, width, height)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        if view.state.pages.num_pages == 0:
            return [(("no pages yet: the engine has not laid out its KV cache", "dim"),)]
        pages = view.state.pages
        picked = _held(pages, view.model.selected)
        look = LOOKS.get(view.model.colouring)
        lines = map_lines(pages, self.grid, _cursor(view), picked, look, view.state.t_ns)
        pool = pool_column(pages, self.grid)
        if pool:
            lines = [
                (*fit_row(line, width - 1), cell) for line, cell in zip(lines, pool, strict=True)
            ]
        lines += history(view.state, width, height - 1 - len(lines))
        aside = _POOL_LEGEND if pool else EMPTY
        room = width - width_of(aside) - (1 if aside else 0)
        per_cell = self.grid.per_cell
        if look is None:
            glyphs = legend(per_cell, room)
        else:
            glyphs = look_legend(view.model.colouring, per_cell, room)
        return [*lines, spread(glyphs, aside, width)]

    def _grid(self, view: View) -> Grid:
        width, height = self.inner
        per_cell = max(1, view.model.pages_per_cell)
        num_pages = view.state.pages.num_pages
        grid = grid_for(
            num_pages, width - _POOL_WIDTH, height - 1, per_cell, _cursor(view), self._first_line
        )
        self._first_line = grid.first_line
        return grid

    def on_click(self, event: events.Click) -> None:
        left, top = self.body_offset()
        page = self.grid.page_at(event.x - left, event.y - top)
        if page is not None:
            self.post_message(self.Picked(page))


def history(state: SessionState, width: int, height: int) -> list[Row]:
    """`height` rows: where the map leaves room, the pages used in each of the newest seconds."""
    if height < _HISTORY_FROM:
        return [EMPTY] * height
    num_pages = state.pages.num_pages
    shown = min(2 * width, seconds.CAPACITY)
    title = f"pages used, 0-{grouped(num_pages)}, newest {shown} s"
    chart = area(state.seconds.series("pages_used"), width, height - 3, num_pages, "used")
    return [EMPTY, ((title, "dim"),), *chart, EMPTY]


def _cursor(view: View) -> int:
    return max(0, min(view.model.cursor_page, view.state.pages.num_pages - 1))


def _held(pages: Pages, request: int | None) -> frozenset[int]:
    return frozenset() if request is None else frozenset(pages.pages_of(request))
