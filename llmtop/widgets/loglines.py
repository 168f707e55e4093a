"""The journal: levels, a filter, and a window that follows its end or stands still."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

from textual import events
from textual.message import Message

from llmtop.format import clock, short_name
from llmtop.journal import journal
from llmtop.sanitize import clean_line
from llmtop.viewmodel import LOG_LEVELS, View, ViewModel
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, plain
from llmtop.widgets.wrapping import wrapped
from profiler.events import Log
from profiler.folds.clock import NS_PER_S
from profiler.walltime import wall_ns_of

_ROLES: Final = {"debug": "dim", "info": "good", "warning": "warn", "error": "bad"}
_TEXT_ROLES: Final = {"debug": "dim", "warning": "warn", "error": "bad"}
_RANKS: Final = {level: rank for rank, level in enumerate(LOG_LEVELS)}
_SOURCE_WIDTH: Final = 8


class LogLines(Panel):
    """Newest at the bottom. Lines that are too long go on below, indented; those that name the
    selected request stand out."""

    about = (
        "The server's log, findings, phases, and how requests ended, on one clock. Lines that "
        "name the selected request stand out."
    )
    own_keys = (
        "level",
        "filter: a regular expression that lines have to match",
        "up: older lines",
        "down: newer lines",
        "last: follow the end",
        "open: the newest line's request, or its time",
    )
    wheel = ("move", 3)

    class Picked(Message):
        """A line was clicked."""

        def __init__(self, line: Log) -> None:
            super().__init__()
            self.line = line

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._lines: list[Log] = []
        self._shown: list[Log] = []

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        self._lines = matching(journal(view.state, findings=view.findings), view.model)
        return super().rows(view, width, height)

    def title(self, view: View) -> Row:
        model = view.model
        title: Row = (("Log ", "title"), (_level_words(model.log_level), "value"))
        if model.log_filter:
            title = (*title, (", filter ", "dim"), (clean_line(model.log_filter), "key"))
        return title

    def note(self, view: View) -> str:
        lines = self._lines
        newer = len(lines) - last_shown(lines, view.model.log_until_ns) - 1
        if view.model.log_until_ns is None or newer <= 0:
            return "following"
        return f"{newer} newer, End follows"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        lines = self._lines
        if not lines:
            return [((_nothing(view), "dim"),)]
        rows: list[Row] = []
        shown: list[Log] = []
        chosen = None if view.request is None else short_name(view.request.name)
        for at in range(last_shown(lines, view.model.log_until_ns), -1, -1):
            if len(rows) >= height:
                break
            time = _time(view, lines[at].t_ns)
            entry = log_rows(lines[at], time if width >= 90 else time[:8], width)
            if chosen and chosen in lines[at].text:
                entry = tuple(((plain(row), "select"),) for row in entry)
            rows, shown = [*entry, *rows], [lines[at]] * len(entry) + shown
        cut = max(0, len(rows) - height)
        self._shown = shown[cut:]
        return rows[cut:]

    def on_click(self, event: events.Click) -> None:
        at = event.y - self.body_offset()[1]
        if self._lines and 0 <= at < len(self._shown):
            self.post_message(self.Picked(self._shown[at]))


def matching(lines: Sequence[Log], model: ViewModel) -> list[Log]:
    """Lines of at least the chosen level in which the filter is found, whatever the case."""
    least = LOG_LEVELS.index(model.log_level)
    ranked = [line for line in lines if _rank(line.level) >= least]
    if not model.log_filter:
        return ranked
    search = re.compile(model.log_filter, re.IGNORECASE).search
    return [line for line in ranked if search(f"{line.level} {line.source} {line.text}")]


def _rank(level: str) -> int:
    return _RANKS.get(level, len(LOG_LEVELS))


def last_shown(lines: Sequence[Log], until_ns: int | None) -> int:
    """Index of the newest line not after `until_ns`, at least 0; the last one for None."""
    if until_ns is None:
        return len(lines) - 1
    return max(0, sum(line.t_ns <= until_ns for line in lines) - 1)


def scrolled(lines: Sequence[Log], until_ns: int | None, by: int) -> int | None:
    """The time up to which to show lines after a move of `by` lines; None is "follow the end".

    Lines of one instant are passed over together.
    """
    if not lines:
        return None
    before = last_shown(lines, until_ns)
    at = max(0, min(len(lines) - 1, before + by))
    while 0 < at < before and lines[at].t_ns == lines[before].t_ns:
        at -= 1
    return None if lines[at].t_ns >= lines[-1].t_ns else lines[at].t_ns


# Cached, as the next one: the lines on the screen are mostly those of the frame before.
@lru_cache(maxsize=256)
def log_rows(line: Log, time: str, width: int) -> tuple[Row, ...]:
    level = line.level if line.level in _ROLES else clean_line(line.level)[:7]
    source = clean_line(line.source)[:_SOURCE_WIDTH]
    head = f"{time} "
    lead = len(head) + 8 + _SOURCE_WIDTH + 1
    texts = wrapped(clean_line(line.text), max(16, width - lead))
    role = _TEXT_ROLES.get(line.level, "text")
    first: Row = (
        (head, "dim"),
        (f"{level:<8}", _ROLES.get(line.level, "text")),
        (f"{source:<{_SOURCE_WIDTH}} ", "dim"),
        (texts[0], role),
    )
    return (first, *(((" " * lead, "text"), (text, role)) for text in texts[1:]))


def _time(view: View, t_ns: int) -> str:
    wall_ns = wall_ns_of(view.state, t_ns)
    return clock(t_ns) if wall_ns is None else wall_clock(wall_ns)


@lru_cache(maxsize=256)
def wall_clock(wall_ns: int) -> str:
    """Local time with milliseconds: 14:02:11.250."""
    shown = datetime.fromtimestamp(wall_ns // NS_PER_S).strftime("%H:%M:%S")
    return f"{shown}.{wall_ns // 1_000_000 % 1000:03d}"


def _level_words(level: str) -> str:
    return "all levels" if level == LOG_LEVELS[0] else f"{level} and above"


def _nothing(view: View) -> str:
    if journal(view.state, 1):
        key = view.model.keymap.shown
        return (
            f"no line matches; {key('level')} shows other levels, {key('back')} clears the filter"
        )
    return "nothing happened yet"
