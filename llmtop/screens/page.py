"""What every tab is: panels that are painted from one picture, and keys that arrive as calls."""

from __future__ import annotations

from pathlib import Path

from textual.message import Message
from textual.widget import Widget

from llmtop.screens.alone import Alone
from llmtop.viewfile import FORMS, save_view
from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel


class Page(Widget):
    """A subclass composes panels and may answer keys; it keeps no state of the session.

    Whatever the viewer chose lives in `view.model`. A key's method changes the model; the
    dashboard paints again right after it.
    """

    class TimeChosen(Message):
        """The viewer wants to see everything as it was at `t_ns`."""

        def __init__(self, t_ns: int) -> None:
            super().__init__()
            self.t_ns = t_ns

    class Chosen(Message):
        """The mouse has chosen something in the view model: all is to be painted again."""

    _alone: Alone | None = None

    DEFAULT_CSS = "Page { height: 1fr; width: 1fr; layout: vertical; }"

    def show(self, view: View) -> None:
        """Paint `view` on every panel that is on the screen."""
        for painted in self.query(Painted):
            if painted.display:
                painted.paint(view)
            else:
                painted.forget()

    def leave(self) -> None:
        """Another page is shown from now on."""
        self.maximise(None)
        self.display = False
        for painted in self.query(Painted):
            painted.forget()

    def lay_out(self, width: int, height: int) -> None:
        """Fit the panels to `width` x `height` cells: which are shown, which are compact."""

    def maximise(self, panel: Panel | None) -> None:
        """`panel` alone on the whole page, or with None everything as it was."""
        if self._alone is not None:
            self._alone.undo()
            self._alone = None
            self.lay_out(self.size.width, self.size.height)
        if panel is not None:
            self._alone = Alone(self, panel)

    @property
    def maximised(self) -> bool:
        return self._alone is not None

    def panels(self) -> list[Panel]:
        """The panels that Tab walks through, in order."""
        return [panel for panel in self.query(Panel) if panel.display and panel.can_focus]

    def move(self, view: View, by: int) -> None:
        """`j`, `k`, arrows up and down, pages: `by` rows; ±1 000 000 is first or last."""

    def slide(self, view: View, by: int) -> None:
        """Arrows left and right."""

    def next(self, view: View, by: int) -> None:
        """`n` and `N`: the next of what is worth a look."""

    def zoom(self, view: View, by: int) -> None:
        """`+` and `-`."""

    def chart(self, view: View, by: int) -> None:
        """`c`: the next chart."""
        view.model.next_chart(by)

    def open(self, view: View) -> None:
        """Enter: whatever is selected."""

    def back(self, view: View) -> bool:
        """Esc: whether there was something to go back from."""
        return False

    def forms(self) -> tuple[str, ...]:
        """`e`: what the page can be written as; nothing while there is nothing to write."""
        return FORMS

    def save(self, view: View, form: str, folder: Path) -> Path:
        """A new file in `folder` in one of `forms`. Raises: LlmtopError."""
        return save_view(view, form, folder)

    def on_resize(self) -> None:
        if self._alone is None:
            self.lay_out(self.size.width, self.size.height)
