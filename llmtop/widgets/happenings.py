"""The newest entries of the journal, newest last."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from llmtop.journal import journal
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.events import Log

LEVEL_ROLES: Final = {"debug": "faint", "info": "dim", "warning": "warn", "error": "bad"}


class Happenings(Panel):
    def title(self, view: View) -> Row:
        return (("Log", "title"),)

    def note(self, view: View) -> str:
        return "all of it: 6"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        told = [line for line in journal(view.state, 4 * height) if line.level != "debug"]
        if not told:
            return [(("nothing to tell", "dim"),)]
        return [log_line(line, view) for line in told[-height:]] if height > 0 else []


def log_line(line: Log, view: View) -> Row:
    """Local time, level, source and text."""
    session = view.state.session
    if session is None:
        stamp = "--:--:--"
    else:
        wall_s = (session.wall_ns + line.t_ns - session.t_ns) / 1e9
        stamp = datetime.fromtimestamp(wall_s).strftime("%H:%M:%S")
    role = LEVEL_ROLES.get(line.level, "dim")
    source = clean_line(line.source)
    return (
        (f"{stamp} ", "dim"),
        (f"{line.level:<7} ", role),
        (f"{source} ", "dim"),
        (clean_line(line.text), "text" if role == "dim" else role),
    )
