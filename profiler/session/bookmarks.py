"""Places of a session that a viewer marked: in its file, or in one beside it where that is not ours
to write."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from profiler.errors import SessionFileError
from profiler.session.markers import Marker
from profiler.session.schema import APPLICATION_ID

BESIDE_SUFFIX: Final = ".bookmarks"
GLYPH: Final = "⚑"
_CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS bookmark "
    "(t_ns INTEGER PRIMARY KEY NOT NULL, text TEXT NOT NULL) STRICT"
)
_INSERT: Final = "INSERT OR REPLACE INTO bookmark (t_ns, text) VALUES (?, ?)"
_MAX_BOOKMARKS: Final = 1000
_MAX_BYTES: Final = 1 << 20
_MAX_TEXT: Final = 200
# A recorder that is at the file holds it for some milliseconds a batch.
_WAIT_S: Final = 0.5
_HINT: Final = "it is there until you leave"


def bookmark(t_ns: int, text: str) -> Marker:
    return Marker(t_ns, GLYPH, f"bookmark: {text}"[:_MAX_TEXT])


def read(path: Path, connection: sqlite3.Connection) -> list[Marker]:
    """All bookmarks of the file at `path`, open as `connection`, and of the one beside it.

    Raises: sqlite3.Error. What is beside and no list of bookmarks counts as none.
    """
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'bookmark'").fetchone()
    rows: list[tuple[int, str]] = []
    if known:
        sql = f"SELECT t_ns, text FROM bookmark ORDER BY t_ns LIMIT {_MAX_BOOKMARKS}"
        rows = connection.execute(sql).fetchall()
    return [bookmark(t_ns, text) for t_ns, text in [*rows, *_beside(path)]]


def add(path: Path, t_ns: int, text: str) -> Path:
    """Where the bookmark was written. Raises: SessionFileError where it could not be."""
    try:
        if _is_ours(path):
            _write_into(path, t_ns, text)
            return path
    except sqlite3.Error:
        pass  # a read-only disk, or a recorder that does not let go: beside it, then
    try:
        return _write_beside(path, t_ns, text)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SessionFileError(f"the bookmark was not saved: {reason}", _HINT) from None


def _is_ours(path: Path) -> bool:
    """Whether nothing forbids to write: neither the file's owner nor its mode."""
    info = path.stat()
    return info.st_uid == os.geteuid() and bool(info.st_mode & 0o200) and os.access(path, os.W_OK)


def _write_into(path: Path, t_ns: int, text: str) -> None:
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT_S)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if application_id != APPLICATION_ID:
            raise sqlite3.DatabaseError("no session file")
        with connection:
            connection.execute(_CREATE)
            connection.execute(_INSERT, (t_ns, text))


def _beside_path(path: Path) -> Path:
    return path.with_name(path.name + BESIDE_SUFFIX)


def _write_beside(path: Path, t_ns: int, text: str) -> Path:
    """One JSON list a line."""
    beside = _beside_path(path)
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW
    with open(os.open(beside, flags, 0o600), "ab") as file:
        file.write(msgspec.json.encode((t_ns, text)) + b"\n")
    return beside


def _beside(path: Path) -> list[tuple[int, str]]:
    try:
        with _beside_path(path).open("rb") as file:
            lines = file.read(_MAX_BYTES).splitlines()
        return [msgspec.json.decode(line, type=tuple[int, str]) for line in lines[:_MAX_BOOKMARKS]]
    except (OSError, msgspec.DecodeError):
        return []
