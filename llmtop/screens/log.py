"""The Log tab."""

from __future__ import annotations

from textual.app import ComposeResult

from llmtop.journal import finding_entries, journal
from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.happenings import open_finding
from llmtop.widgets.loglines import LogLines, last_shown, matching, scrolled
from profiler.events import Log


class LogPage(Page):
    """One panel over the whole page."""

    def compose(self) -> ComposeResult:
        yield LogLines(id="log-lines", bottom="└┘")

    def lay_out(self, width: int, height: int) -> None:
        for panel in self.panels():
            panel.compact = width < 100

    def move(self, view: View, by: int) -> None:
        model = view.model
        model.log_until_ns = scrolled(_lines(view), model.log_until_ns, by)

    def open(self, view: View) -> None:
        """The request that the newest line shown is about, if that line is a finding."""
        lines = _lines(view)
        if lines:
            line = lines[last_shown(lines, view.model.log_until_ns)]
            about = (f for f in view.findings if line in finding_entries(f))
            open_finding(view, next(about, None))

    def back(self, view: View) -> bool:
        """Esc follows the end again, then clears the filter."""
        model = view.model
        if model.log_until_ns is not None:
            model.log_until_ns = None
            return True
        had_filter = bool(model.log_filter)
        model.log_filter = ""
        return had_filter


def _lines(view: View) -> list[Log]:
    return matching(journal(view.state, findings=view.findings), view.model)
