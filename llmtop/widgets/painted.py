"""A widget that keeps its drawn rows and sends only those cells that changed."""

from __future__ import annotations

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.palette import style_of
from llmtop.widgets.rows import EMPTY, Row, fit_row, merged, width_of


def changed_cells(old: Row, new: Row) -> tuple[int, int]:
    """First column and number of columns in which two rows of the same width may differ."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start = width_of(new[:head])
    return start, width_of(new[head : len(new) - tail])


def printable(row: Row) -> Row:
    """`row` without control characters: the last gate before the terminal."""
    if all(text.isprintable() for text, _ in row):
        return row
    return tuple((clean_line(text), role) for text, role in row)


class Painted(Widget):
    """A subclass draws `rows`; `paint` compares them with what is on the screen."""

    DEFAULT_CSS = "Painted { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._rows: list[Row] = []
        self._strips: dict[int, Strip] = {}
        self._painted_size = (0, 0)
        self._view: View | None = None

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        """At most `height` rows; shorter ones are filled up with blanks."""
        raise NotImplementedError

    def paint(self, view: View) -> None:
        """Draw `view`; nothing is sent for rows that stay as they are."""
        self._view = view
        width, height = self.size
        if not width or not height:
            return
        drawn = self.rows(view, width, height)[:height]
        drawn += [EMPTY] * (height - len(drawn))
        new = [merged(fit_row(printable(row), width)) for row in drawn]
        if self._painted_size != (width, height):
            self._rows, self._painted_size = new, (width, height)
            self._strips.clear()
            self.refresh()
            return
        self._send_changes(new)

    def _send_changes(self, new: list[Row]) -> None:
        dirty: list[Region] = []
        for y, row in enumerate(new):
            if row != self._rows[y]:
                start, cells = changed_cells(self._rows[y], row)
                self._rows[y] = row
                self._strips.pop(y, None)
                dirty.append(Region(start, y, max(1, cells), 1))
        if dirty:
            self.refresh(*dirty)

    def row(self, y: int) -> Row:
        """What stands on line `y` now."""
        return self._rows[y] if y < len(self._rows) else EMPTY

    def repaint(self) -> None:
        """Draw the last picture again, with new colours or another size."""
        self._painted_size = (0, 0)
        if self._view is not None:
            self.paint(self._view)

    def on_resize(self) -> None:
        self.repaint()

    def render_line(self, y: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None:
            strip = self._strips[y] = self._strip(y)
        return strip

    def _strip(self, y: int) -> Strip:
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        theme, base = self.app.theme, self.rich_style
        segments = [Segment(text, base + style_of(theme, role)) for text, role in self._rows[y]]
        return Strip(segments, self.size.width)
