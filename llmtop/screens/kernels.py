"""The newest window of kernels, over whatever tab is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from llmtop.screens.sheet import LiveSheet
from llmtop.widgets.kerneltable import kernel_rows
from llmtop.widgets.rows import Row

if TYPE_CHECKING:
    from llmtop.viewmodel import View


class KernelsScreen(LiveSheet):
    """Waits for a window that was told after `since_ns`; Esc, q or T closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("T", "dismiss", id="kernels")]
    heading = "Kernels"

    def __init__(self, view: View, since_ns: int = 0) -> None:
        super().__init__(view)
        self._since_ns = since_ns

    def rows(self, width: int) -> list[Row]:
        state = self.view.state
        window = state.kernels
        if window is not None and window.t_ns > self._since_ns:
            return kernel_rows(window, state.session, state.steps, width)
        if self._since_ns:
            return [(("waiting for the steps: only work makes them", "text"),)]
        return [(("no kernels were captured in this session so far", "text"),)]
