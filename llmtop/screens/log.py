"""The Log tab."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult

from llmtop.journal import journal
from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.happenings import finding_of, leads_to, open_finding
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
        """What the newest line shown is about, if that line is a finding that names a request or
        step; else the time cursor goes to the line."""
        lines = _lines(view)
        if not lines:
            return
        self._open(view, lines[last_shown(lines, view.model.log_until_ns)])

    @on(LogLines.Picked)
    def _picked(self, event: LogLines.Picked) -> None:
        view = self.query_one(LogLines).painted_view
        if view is not None:
            self._open(view, event.line)
            self.post_message(self.Chosen())

    def _open(self, view: View, line: Log) -> None:
        finding = finding_of(view, line)
        if finding is not None and leads_to(view, finding):
            open_finding(view, finding)
        else:
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


def _lines(view: View) -> list[Log]:
    return matching(journal(view.state, findings=view.findings), view.model)
