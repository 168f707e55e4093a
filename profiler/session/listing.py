"""What recordings there are."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from profiler.errors import SessionFileError
from profiler.session.opening import SessionFile, damaged
from profiler.session.reader import SessionReader

_FIRST_TABLES: Final = ("session_start", "target_state", "metrics_sample")


class SessionInfo(msgspec.Struct, frozen=True):
    """One file. `problem` says why it cannot be read, and then nothing but name and size is known.

    `wall_ns` is the Unix time at which the recording begins. Without `clean_end` the recorder was
    killed or is still writing.
    """

    path: Path
    num_bytes: int
    model: str = ""
    wall_ns: int = 0
    duration_ns: int = 0
    num_requests: int = 0
    clean_end: bool = False
    problem: str = ""


def list_sessions(folder: Path) -> list[SessionInfo]:
    """Every `*.db` of `folder`, oldest name first; empty when there is no such folder."""
    return [session_info(path) for path in sorted(folder.glob("*.db"))]


def session_info(path: Path) -> SessionInfo:
    num_bytes = sum(_size(path.with_name(path.name + suffix)) for suffix in ("", "-wal"))
    try:
        reader = SessionReader(path)
    except SessionFileError as error:
        return SessionInfo(path, num_bytes, problem=error.message)
    try:
        return _described(reader, num_bytes)
    except SessionFileError as error:
        return SessionInfo(path, num_bytes, problem=error.message)
    except (TypeError, ValueError, OverflowError) as error:
        return SessionInfo(path, num_bytes, problem=damaged(path, error).message)
    finally:
        reader.close()


def has_begun(path: Path) -> bool:
    """Whether a model was served in the recording, or a server watched; else a start failed, or
    was interrupted. True of a file that cannot be read: opening it says why."""
    try:
        with SessionFile(path) as file:
            rows = (file.connection.execute(f"SELECT 1 FROM {t} LIMIT 1") for t in _FIRST_TABLES)
            return any(row.fetchone() for row in rows) or _goes_on(path)
    except (SessionFileError, sqlite3.Error):
        return True


def _goes_on(path: Path) -> bool:
    """Whether it begins in the middle, as one that a viewer kept: its first state tells of whom."""
    reader = SessionReader(path)
    try:
        first = reader.state_at(reader.start_ns)
    finally:
        reader.close()
    told = first.foreign.last is not None or bool(first.fleet.replicas)
    return told or first.session is not None


def _described(reader: SessionReader, num_bytes: int) -> SessionInfo:
    start = reader.session
    return SessionInfo(
        reader.path,
        num_bytes,
        model="" if start is None else start.model,
        wall_ns=reader.wall_ns,
        duration_ns=reader.end_ns - reader.start_ns,
        num_requests=reader.num_requests,
        clean_end=reader.clean_end,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
