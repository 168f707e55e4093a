"""What being observed costs, over whatever tab is open."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from llmtop.screens.sheet import LiveSheet
from llmtop.viewmodel import View
from llmtop.widgets.observercost import lines_of, observer_rows
from llmtop.widgets.rows import EMPTY, Row


class ObserverScreen(LiveSheet):
    """Shows the newest measurement; `refusal` says why there will be no other. Esc, q or O closes
    it, and the measurement goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("O", "dismiss", id="observer")]
    heading = "What observing costs"

    def __init__(self, view: View, refusal: str) -> None:
        super().__init__(view)
        self._refusal = refusal

    def rows(self, width: int) -> list[Row]:
        last = self.view.state.observing.last
        note = lines_of(self._refusal, width, "warn")
        if last is not None:
            return [*observer_rows(last, width), *((EMPTY, *note) if self._refusal else ())]
        if self._refusal:
            return [*lines_of("not measured in this session so far", width), EMPTY, *note]
        return lines_of("the engine begins", width)
