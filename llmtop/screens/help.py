"""The help over whatever tab is open."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from llmtop.keys import Keymap
from llmtop.screens.sheet import Sheet
from llmtop.widgets.helptext import help_rows
from llmtop.widgets.rows import Row


class HelpScreen(Sheet):
    """Every key of `mode`, "live" or "replay"; Esc, q or ? closes it."""

    DEFAULT_CSS = "HelpScreen Scrolled { max-width: 118; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "dismiss", id="help")]
    heading = "Keys"

    def __init__(self, keymap: Keymap, mode: str) -> None:
        super().__init__()
        self._keymap = keymap
        self._mode = mode

    def rows(self, width: int) -> list[Row]:
        return help_rows(self._keymap, self._mode, width)
