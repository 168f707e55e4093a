"""The help over whatever tab is open."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from llmtop.keys import Keymap
from llmtop.widgets.helptext import help_rows
from llmtop.widgets.scrolled import Scrolled


class HelpScreen(ModalScreen[None]):
    """Every key of `mode`, "live" or "replay"; Esc, q or ? closes it."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen Scrolled { width: 1fr; max-width: 118; height: 1fr; margin: 1 1;
        padding: 0 1; border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close"),
        Binding("q", "dismiss", id="quit"),
        Binding("question_mark", "dismiss", id="help"),
        Binding("j,down", "scroll_lines(1)", show=False),
        Binding("k,up", "scroll_lines(-1)", show=False),
        Binding("pagedown,space", "scroll_lines(10)", show=False),
        Binding("pageup", "scroll_lines(-10)", show=False),
        Binding("home", "scroll_lines(-1000)", show=False),
        Binding("end", "scroll_lines(1000)", show=False),
    ]

    def __init__(self, keymap: Keymap, mode: str) -> None:
        super().__init__()
        self._keymap = keymap
        self._mode = mode

    def compose(self) -> ComposeResult:
        yield Scrolled(id="help")

    def on_mount(self) -> None:
        self._text.border_title = "Keys"
        self.call_after_refresh(self._lay_out)

    def on_resize(self) -> None:
        self.call_after_refresh(self._lay_out)

    @property
    def _text(self) -> Scrolled:
        return self.query_one("#help", Scrolled)

    def _lay_out(self) -> None:
        text = self._text
        rows = help_rows(self._keymap, self._mode, text.size.width)
        text.show(rows)
        more = "j k scroll, " if len(rows) > text.size.height else ""
        text.border_subtitle = f"{more}Esc closes"

    def action_scroll_lines(self, by: int) -> None:
        self._text.scroll_lines(by)

    async def action_dismiss(self, result: None = None) -> None:
        self.dismiss()
