"""The newest window of kernels, over whatever tab is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from llmtop.widgets.kerneltable import kernel_rows
from llmtop.widgets.rows import Row
from llmtop.widgets.scrolled import Scrolled

if TYPE_CHECKING:
    from llmtop.viewmodel import View


class KernelsScreen(ModalScreen[None]):
    """Waits for a window that was told after `since_ns`; Esc, q or T closes it."""

    DEFAULT_CSS = """
    KernelsScreen { align: center middle; }
    KernelsScreen Scrolled { width: 1fr; height: 1fr; margin: 1 1; padding: 0 1;
        border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close"),
        Binding("q", "dismiss", id="quit"),
        Binding("T", "dismiss", id="kernels"),
        Binding("j,down", "scroll_lines(1)", show=False),
        Binding("k,up", "scroll_lines(-1)", show=False),
        Binding("pagedown,space", "scroll_lines(10)", show=False),
        Binding("pageup", "scroll_lines(-10)", show=False),
        Binding("home", "scroll_lines(-1000)", show=False),
        Binding("end", "scroll_lines(1000)", show=False),
    ]

    def __init__(self, view: View, since_ns: int = 0) -> None:
        super().__init__()
        self._view = view
        self._since_ns = since_ns

    def compose(self) -> ComposeResult:
        yield Scrolled(id="kernels")

    def on_mount(self) -> None:
        self.query_one(Scrolled).border_title = "Kernels"
        self.call_after_refresh(self.show, self._view)

    def on_resize(self) -> None:
        self.call_after_refresh(lambda: self.show(self._view))

    def show(self, view: View) -> None:
        """Paints the picture's newest window."""
        self._view = view
        for table in self.query(Scrolled):  # none yet while the screen is being put up
            table.show(self._rows(view, table.size.width))
            more = "j k scroll, " if len(table.rows) > table.size.height else ""
            table.border_subtitle = f"{more}Esc closes"

    def _rows(self, view: View, width: int) -> list[Row]:
        window = view.state.kernels
        if window is not None and window.t_ns > self._since_ns:
            return kernel_rows(window, view.state.steps, width)
        if self._since_ns:
            return [(("waiting for the steps: only work makes them", "text"),)]
        return [(("no kernels were captured in this session so far", "text"),)]

    def action_scroll_lines(self, by: int) -> None:
        self.query_one(Scrolled).scroll_lines(by)

    async def action_dismiss(self, result: None = None) -> None:
        self.dismiss()
