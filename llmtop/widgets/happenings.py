"""What was found and is not over, and below it the newest entries of the journal."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from textual import events
from textual.message import Message

from llmtop.journal import finding_entries, journal
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.events import Finding, Log
from profiler.walltime import wall_ns_of

LEVEL_ROLES: Final = {"debug": "faint", "info": "dim", "warning": "warn", "error": "bad"}


class Happenings(Panel):
    """Findings that are open, alerts before others, newest first; then the newest entries."""

    about = "What was found and is not over, alerts first, and below it the newest of the log."
    own_keys = ("open: the request or step that the first finding is about", "log: all of it")

    class Picked(Message):
        """The line of a finding was clicked."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._shown: list[Log] = []

    def title(self, view: View) -> Row:
        return (("Findings and events", "title"),)

    def note(self, view: View) -> str:
        if self.has_focus:
            return open_hint(view)
        keymap = view.model.keymap
        return f"all of it: {keymap.shown('fleet-log' if view.state.fleet.replicas else 'log')}"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        entries = journal(view.state, 4 * height, view.findings)
        pinned = [finding_entries(f)[0] for f in open_findings(view)][:height]
        told = [line for line in entries if line.level != "debug" and line not in pinned]
        left = height - len(pinned)
        self._shown = pinned + (told[-left:] if left > 0 else [])
        if not self._shown:
            return [(("nothing to tell", "dim"),)]
        return [log_line(line, view) for line in self._shown]

    def on_click(self, event: events.Click) -> None:
        at = event.y - self.body_offset()[1]
        if self._view is not None and 0 <= at < len(self._shown):
            finding = finding_of(self._view, self._shown[at])
            if finding is not None:
                self.post_message(self.Picked(finding))


def open_findings(view: View) -> list[Finding]:
    opened = [finding for finding in view.findings if finding.status == "open"]
    return sorted(opened, key=lambda f: (f.level != "alert", -f.t_ns))


def finding_of(view: View, line: Log) -> Finding | None:
    """The finding of which `line` of the journal tells."""
    return next((f for f in view.findings if line in finding_entries(f)), None)


def worst_open(view: View) -> Finding | None:
    """The first of those that are open and lead on."""
    return next((f for f in open_findings(view) if leads_to(view, f)), None)


def open_hint(view: View) -> str:
    """What Enter does on the findings."""
    finding = worst_open(view)
    place = "" if finding is None else leads_to(view, finding)
    return f"{view.model.keymap.shown('open')}: its {place}" if place else "no request to open"


def leads_to(view: View, finding: Finding) -> Literal["request", "step", ""]:
    """What the finding is about and is still kept: a request before a step, "" for neither."""
    if view.state.requests.get(finding.request) is not None:
        return "request"
    return "step" if view.state.steps.find(finding.step) is not None else ""


def open_finding(view: View, finding: Finding) -> None:
    """Show the request or the step that a finding is about, if it leads to one."""
    place, model = leads_to(view, finding), view.model
    if place == "request":
        model.selected = finding.request
        model.open_request()
    elif place == "step":
        model.page, model.step, model.step_of_request = "steps", finding.step, False


def log_line(line: Log, view: View) -> Row:
    """Local time, level, source and text."""
    wall_ns = wall_ns_of(view.state, line.t_ns)
    time = None if wall_ns is None else datetime.fromtimestamp(wall_ns / 1e9)
    stamp = "--:--:--" if time is None else f"{time:%H:%M:%S}"
    role = LEVEL_ROLES.get(line.level, "dim")
    source = clean_line(line.source)
    return (
        (f"{stamp} ", "dim"),
        (f"{line.level:<7} ", role),
        (f"{source} ", "dim"),
        (clean_line(line.text), "text" if role == "dim" else role),
    )
