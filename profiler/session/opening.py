"""Opens a session file to read, whoever wrote it and however that ended."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import quote

from profiler.errors import SessionFileError
from profiler.session.schema import APPLICATION_ID, USER_VERSION

_MAX_VALUE_BYTES: Final = 1 << 28
# What computes when it is read, as long as whoever made the file likes. Ours has tables alone.
_ACTIVE_PARTS: Final = (
    "SELECT 1 FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
)
_HINT: Final = "llmtop sessions lists the recordings it can play"


class SessionFile:
    """A read-only connection. A file whose writer was killed has its last batches in a log beside
    it, which SQLite takes in on opening; where the folder forbids that, this works on a copy of
    both in a temporary folder, which goes away on `close`.

    Threads may share it if they take turns.
    """

    def __init__(self, path: Path) -> None:
        """Raises: SessionFileError."""
        self.path = path
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        if not path.is_file():
            raise SessionFileError(f"there is no file {path}", _HINT)
        self.connection = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self.path)
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise damaged(self.path, error) from None
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, error) from None
        try:
            return _connect(self._copied())
        except (OSError, sqlite3.Error) as error:
            raise damaged(self.path, error) from None

    def _copied(self) -> Path:
        self._copy = tempfile.TemporaryDirectory(prefix="llmtop-")
        folder = Path(self._copy.name)
        for suffix in ("", "-wal"):
            source = self.path.with_name(self.path.name + suffix)
            if source.exists():
                shutil.copyfile(source, folder / f"session.db{suffix}")
        return folder / "session.db"

    def close(self) -> None:
        self.connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    def __enter__(self) -> SessionFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def damaged(path: Path, error: Exception) -> SessionFileError:
    return SessionFileError(f"{path.name} cannot be read: {error}", _HINT)


def _connect(path: Path) -> sqlite3.Connection:
    """Raises: sqlite3.Error, SessionFileError."""
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, check_same_thread=False
    )
    try:
        # Strangers send files: no functions out of their schema, nothing larger than a keyframe.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        _check(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID and _lacks_its_log(connection):
        raise SessionFileError(
            f"{path.name} is empty: it was written through {path.name}-wal, which is not here",
            "a recording under way is both files, and one once its server has stopped",
        )
    if application_id != APPLICATION_ID:
        raise SessionFileError(f"{path.name} is a database, but no llmtop session", _HINT)
    if version > USER_VERSION:
        raise SessionFileError(
            f"{path.name} was recorded by a newer llmtop (format {version}, this one reads "
            f"{USER_VERSION})",
            "upgrade llmtop to play it",
        )
    if connection.execute(_ACTIVE_PARTS).fetchone():
        raise SessionFileError(f"{path.name} holds views or triggers: no llmtop wrote it", _HINT)
    connection.execute("SELECT count(*) FROM session").fetchone()


def _lacks_its_log(connection: sqlite3.Connection) -> bool:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(mode == "wal" and not tables)
