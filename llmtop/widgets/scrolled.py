"""Drawn rows in a window that can be moved over them: help, and the answers of the prompt box."""

from __future__ import annotations

from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from llmtop.widgets.palette import style_of
from llmtop.widgets.rows import EMPTY, Row, exact_row


class Scrolled(Widget):
    """Shows `rows` from line `first` on. With `follow` it stays at the end as rows are added."""

    DEFAULT_CSS = "Scrolled { height: 1fr; width: 1fr; }"

    class Resized(Message):
        """It has another size, or its first one: rows made for its width are to be made anew."""

    def __init__(self, *, id: str | None = None, follow: bool = False) -> None:
        super().__init__(id=id)
        self.rows: list[Row] = []
        self.first = 0
        self._follow = follow
        self._at_end = follow

    @property
    def last_first(self) -> int:
        """The line from which on the last page is shown."""
        return max(0, len(self.rows) - self.size.height)

    def show(self, rows: list[Row]) -> None:
        self.rows = rows
        self.first = self.last_first if self._at_end else min(self.first, self.last_first)
        self.refresh()

    def scroll_lines(self, by: int) -> None:
        self.first = max(0, min(self.last_first, self.first + by))
        self._at_end = self._follow and self.first == self.last_first
        self.refresh()

    def on_resize(self) -> None:
        self.post_message(self.Resized())

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.scroll_lines(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.scroll_lines(-3)

    def render_line(self, y: int) -> Strip:
        at = self.first + y
        row = self.rows[at] if at < len(self.rows) else EMPTY
        theme, base, width = self.app.theme, self.rich_style, self.size.width
        cells = exact_row(row, width)
        return Strip([Segment(text, base + style_of(theme, role)) for text, role in cells], width)
