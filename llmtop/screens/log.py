"""The Log tab."""

from __future__ import annotations

from textual.app import ComposeResult

from llmtop.journal import journal
from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.loglines import LogLines, last_shown, matching, scrolled


class LogPage(Page):
    """One panel over the whole page."""

    def compose(self) -> ComposeResult:
        yield LogLines(id="log-lines", bottom="└┘")

    def lay_out(self, width: int, height: int) -> None:
        for panel in self.panels():
            panel.compact = width < 100

    def move(self, view: View, by: int) -> None:
        model = view.model
        lines = matching(journal(view.state), model)
        model.log_until_ns = scrolled(lines, model.log_until_ns, by)

    def open(self, view: View) -> None:
        """The time cursor goes to the newest line that is shown."""
        lines = matching(journal(view.state), view.model)
        if lines:
            line = lines[last_shown(lines, view.model.log_until_ns)]
            self.post_message(self.TimeChosen(line.t_ns))

    def back(self, view: View) -> bool:
        """Esc follows the end again, then clears the filter."""
        model = view.model
        if model.log_until_ns is not None:
            model.log_until_ns = None
            return True
        had_filter = bool(model.log_filter)
        model.log_filter = ""
        return had_filter
