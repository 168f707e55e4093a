"""Rows over whatever tab is open, in a window that can be moved over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from llmtop.widgets.rows import Row
from llmtop.widgets.scrolled import Scrolled

if TYPE_CHECKING:
    from llmtop.viewmodel import View


class Sheet(ModalScreen[None]):
    """Subclasses give `heading` and `rows`, and the key that closes them besides Esc and q."""

    DEFAULT_CSS = """
    Sheet { align: center middle; }
    Sheet Scrolled { width: 1fr; height: 1fr; margin: 1 1; padding: 0 1;
        border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close"),
        Binding("q", "dismiss", id="quit"),
        Binding("j,down", "scroll_lines(1)", show=False),
        Binding("k,up", "scroll_lines(-1)", show=False),
        Binding("pagedown,space", "scroll_lines(10)", show=False),
        Binding("pageup", "scroll_lines(-10)", show=False),
        Binding("home", "scroll_lines(-1000)", show=False),
        Binding("end", "scroll_lines(1000)", show=False),
    ]
    heading: ClassVar[str]

    def rows(self, width: int) -> list[Row]:
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield Scrolled()

    def on_mount(self) -> None:
        self.query_one(Scrolled).border_title = self.heading

    @on(Scrolled.Resized)
    def lay_out(self) -> None:
        # None, or none with a size, while the screen is being put up.
        for text in self.query(Scrolled):
            if text.size.width:
                text.show(self.rows(text.size.width))
                more = "j k scroll, " if len(text.rows) > text.size.height else ""
                text.border_subtitle = f"{more}Esc closes"

    def action_scroll_lines(self, by: int) -> None:
        self.query_one(Scrolled).scroll_lines(by)

    async def action_dismiss(self, result: None = None) -> None:
        self.dismiss()


class LiveSheet(Sheet):
    """Rows that are made from each picture anew."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view

    def show(self, view: View) -> None:
        self.view = view
        self.lay_out()
