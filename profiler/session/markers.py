"""Moments of a session that are worth a jump."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from profiler.session.schema import LATER_KINDS

_MAX_EACH: Final = 500
_QUERIES: Final[tuple[tuple[str, str], ...]] = (
    (
        "╎",
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
        Marker(int(t_ns), glyph, str(text)[:200])
        for glyph, sql in _QUERIES
        if not any(f"FROM {kind} " in sql for kind in missing)
        for t_ns, text in connection.execute(f"{sql} LIMIT {_MAX_EACH}")
        if t_ns is not None
    ]
    return sorted(markers)
