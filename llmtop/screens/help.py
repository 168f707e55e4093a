"""The help over whatever tab is open."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from llmtop.keys import Keymap
from llmtop.screens.sheet import Sheet
from llmtop.widgets.helptext import help_rows, no_panel_rows, panel_rows
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row


class HelpScreen(Sheet):
    """First `panel`, which has the focus, then every key of `mode`; Esc, q or ? closes it."""

    DEFAULT_CSS = "HelpScreen Scrolled { max-width: 118; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "dismiss", id="help")]
    heading = "Help"

    def __init__(self, keymap: Keymap, mode: str, panel: Widget | None) -> None:
        super().__init__()
        self._keymap = keymap
        self._mode = mode
        self._panel = panel if isinstance(panel, Panel) else None

    def rows(self, width: int) -> list[Row]:
        keys = help_rows(self._keymap, self._mode, width)
        if self._panel is not None:
            return [*panel_rows(self._panel, self._keymap, self._mode, width), *keys]
        return keys if self._mode == "compare" else [*no_panel_rows(self._keymap, width), *keys]
