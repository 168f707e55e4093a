"""What was found and is not over, and below it the newest entries of the journal."""

from __future__ import annotations

from datetime import datetime
from typing import Final

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
    own_keys = ("open: the request that the first finding is about", "log: all of it")

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
        if not told and not pinned:
            return [(("nothing to tell", "dim"),)]
        left = height - len(pinned)
        lines = pinned + (told[-left:] if left > 0 else [])
        return [log_line(line, view) for line in lines]


def open_findings(view: View) -> list[Finding]:
    opened = [finding for finding in view.findings if finding.status == "open"]
    return sorted(opened, key=lambda f: (f.level != "alert", -f.t_ns))


def worst_open(view: View) -> Finding | None:
    """The first of those that are open and about a request."""
    return next((f for f in open_findings(view) if f.request), None)


def open_hint(view: View) -> str:
    """What Enter does on the findings."""
    finding = worst_open(view)
    known = finding is not None and leads_on(view, finding)
    return f"{view.model.keymap.shown('open')}: its request" if known else "no request to open"


def leads_on(view: View, finding: Finding) -> bool:
    """Whether the finding is about a request that is still kept."""
    return view.state.requests.get(finding.request) is not None


def open_finding(view: View, finding: Finding | None) -> None:
    """Show the request that a finding is about, if there is one and it is still kept."""
    if finding is not None and leads_on(view, finding):
        view.model.selected = finding.request
        view.model.open_request()


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
