"""Moments of a session that are worth a jump."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from profiler.events import (
    AnyEvent,
    Dropped,
    Event,
    Finding,
    Log,
    Phase,
    RequestAborted,
    RequestPreempted,
    RequestRejected,
)
from profiler.folds.clock import NS_PER_S
from profiler.folds.seconds import SecondRow
from profiler.session.schema import LATER_KINDS

_MAX_TEXT: Final = 200
_MAX_EACH: Final = 500
_QUERIES: Final[tuple[tuple[str, str], ...]] = (
    (
        "┼",
        "SELECT min(t_ns), 'phase: ' || name FROM phase GROUP BY name",
    ),
    (
        "◆",
        "SELECT min(t_ns), 'preempt: ' || count(*) || ' in one second' FROM request_preempted "
        "GROUP BY t_ns / 1000000000",
    ),
    (
        "✕",
        "SELECT min(t_ns), 'rejected: ' || count(*) || ', ' || min(reason) FROM request_rejected "
        "GROUP BY t_ns / 1000000000",
    ),
    (
        "✕",
        "SELECT t_ns, 'failed: ' || reason FROM request_aborted WHERE reason LIKE 'error%'",
    ),
    ("▲", "SELECT t_ns, level || ': ' || text FROM log WHERE level IN ('error', 'warning')"),
    ("▲", "SELECT t_ns, level || ': ' || text FROM finding WHERE status = 'open'"),
    ("!", "SELECT t_ns, 'dropped: ' || count || ' events' FROM dropped"),
)


class Marker(NamedTuple):
    """`text` begins with its kind and a colon."""

    t_ns: int
    glyph: str
    text: str


def read_markers(connection: sqlite3.Connection) -> list[Marker]:
    """The first 500 of each kind. Raises: sqlite3.Error."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    missing = LATER_KINDS - tables
    markers = [
        Marker(int(t_ns), glyph, str(text)[:_MAX_TEXT])
        for glyph, sql in _QUERIES
        if not any(f"FROM {kind} " in sql for kind in missing)
        for t_ns, text in connection.execute(f"{sql} LIMIT {_MAX_EACH}")
        if t_ns is not None
    ]
    return sorted(markers)


def load_changes(seconds: Iterable[SecondRow]) -> list[Marker]:
    """Where the number of requests in the system, running or waiting, begins, ends, doubles or
    halves, each against the number at the change before; between 1 and 3 nothing is a change."""
    found: list[Marker] = []
    before = 0
    for row in seconds:
        now = row.running + row.waiting
        grown, shrunk = now >= 2 * max(before, 2), before >= 2 * max(now, 2)
        if (now == 0) != (before == 0) or grown or shrunk:
            text = f"load: {before} to {now} requests"
            found.append(Marker(row.second * NS_PER_S, "╎", text))
            before = now
    return found


@dataclass(slots=True)
class _Group:
    """Events that make one marker, and how it says so of `count` of them and their least `word`."""

    t_ns: int
    glyph: str
    form: str
    word: str
    count: int = 0

    @property
    def marker(self) -> Marker:
        text = self.form.format(count=self.count, word=self.word)
        return Marker(self.t_ns, self.glyph, text[:_MAX_TEXT])


class MarkerFold:
    """The markers of a stream, event by event: the same that `read_markers` finds in its file."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], _Group] = {}
        self._num_single = 0

    def apply(self, event: AnyEvent) -> None:
        told = _TELLERS.get(type(event))
        if told is None:
            return
        glyph, form, word, together = told(event)
        if form:
            self._add(event.t_ns, glyph, form, word, together)

    def _add(self, t_ns: int, glyph: str, form: str, word: str, together: object) -> None:
        """One more; those of one form that share `together` are one marker, None shares nothing."""
        if together is None:
            self._num_single += 1
        key = (form, together, self._num_single if together is None else 0)
        group = self._groups.setdefault(key, _Group(t_ns, glyph, form, word))
        group.t_ns, group.word = min(group.t_ns, t_ns), min(group.word, word)
        group.count += 1

    def forget_before(self, t_ns: int) -> None:
        self._groups = {key: g for key, g in self._groups.items() if g.t_ns >= t_ns}

    def markers(self) -> list[Marker]:
        """In no order."""
        return [group.marker for group in self._groups.values()]


class _Told(NamedTuple):
    """What an event tells of a marker; `form` "" is of none."""

    glyph: str = ""
    form: str = ""
    word: str = ""
    together: object = None


def _rejected(event: RequestRejected) -> _Told:
    return _Told("✕", "rejected: {count}, {word}", event.reason, event.t_ns // NS_PER_S)


def _preempted(event: RequestPreempted) -> _Told:
    return _Told("◆", "preempt: {count} in one second", "", event.t_ns // NS_PER_S)


def _aborted(event: RequestAborted) -> _Told:
    failed = event.reason.lower().startswith("error")
    return _Told("✕", "failed: {word}", event.reason) if failed else _Told()


def _log(event: Log) -> _Told:
    told = event.level in ("error", "warning")
    return _Told("▲", "{word}", f"{event.level}: {event.text}") if told else _Told()


def _finding(event: Finding) -> _Told:
    opened = event.status == "open"
    return _Told("▲", "{word}", f"{event.level}: {event.text}") if opened else _Told()


_TELLERS: Final[Mapping[type[Event], Callable[[Any], _Told]]] = {
    Phase: lambda event: _Told("┼", "phase: {word}", event.name, event.name),
    RequestRejected: _rejected,
    RequestPreempted: _preempted,
    RequestAborted: _aborted,
    Log: _log,
    Finding: _finding,
    Dropped: lambda event: _Told("!", "dropped: {word} events", str(event.count)),
}
