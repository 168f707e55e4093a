"""An examination of a server as lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from llmtop.checks.server import Examination, View
from profiler.foreign.diagnosis import Signal

_COLOURS: Final = {"found": "green", "renamed": "green", "quiet": "yellow", "missing": "red"}
_STATUS: Final = 9
_WHAT: Final = 22
_MOST_UNREAD: Final = 6


def examination_lines(found: Examination) -> Iterator[str]:
    who = " ".join(part for part in (found.engine, found.version) if part)
    model = f", serving {found.model}" if found.model else ""
    yield f"{found.url} is {who}{model}"
    if found.signals:
        yield f"metrics: {found.page}, {found.num_samples} samples are read"
    if found.advice:
        yield found.advice
    yield from map(_signal, found.signals)
    yield from map(_view, found.views)
    if found.unread:
        names = ", ".join(found.unread[:_MOST_UNREAD])
        more = len(found.unread) - _MOST_UNREAD
        yield f"not used: {names}{f' and {more} more (--json)' if more > 0 else ''}"


def _signal(signal: Signal) -> str:
    rest = "  ".join(part for part in (signal.name, signal.remark) if part)
    return _line(signal.status, _COLOURS[signal.status], signal.what, rest)


def _view(view: View) -> str:
    return _line(
        *(("shown", "green") if view.shown else ("not shown", "yellow")), view.what, view.how
    )


def _line(status: str, colour: str, what: str, rest: str) -> str:
    return f"{click.style(f'{status:<{_STATUS}}', fg=colour)} {what:<{_WHAT}} {rest}".rstrip()
