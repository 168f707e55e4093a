"""What every tab is: panels that are painted from one picture, and keys that arrive as calls."""

from __future__ import annotations

from textual.widget import Widget

from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel


class Page(Widget):
    """A subclass composes panels and may answer keys; it keeps no state of the session.

    Whatever the viewer chose lives in `view.model`. A key's method changes the model; the
    dashboard paints again right after it.
    """

    DEFAULT_CSS = "Page { height: 1fr; width: 1fr; layout: vertical; }"

    def show(self, view: View) -> None:
        """Paint `view` on every panel that is on the screen."""
        for painted in self.query(Painted):
            if painted.display:
                painted.paint(view)

    def lay_out(self, width: int, height: int) -> None:
        """Fit the panels to `width` x `height` cells: which are shown, which are compact."""

    def panels(self) -> list[Panel]:
        """The panels that Tab walks through, in order."""
        return [panel for panel in self.query(Panel) if panel.display and panel.can_focus]

    def move(self, view: View, by: int) -> None:
        """`j`, `k`, arrows up and down, pages: `by` rows; ±1 000 000 is first or last."""

    def slide(self, view: View, by: int) -> None:
        """Arrows left and right."""

    def zoom(self, view: View, by: int) -> None:
        """`+` and `-`."""

    def open(self, view: View) -> None:
        """Enter: whatever is selected."""

    def back(self, view: View) -> bool:
        """Esc: whether there was something to go back from."""
        return False

    def on_resize(self) -> None:
        self.lay_out(self.size.width, self.size.height)
