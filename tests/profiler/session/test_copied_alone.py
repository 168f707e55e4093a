"""A recording that is still written is two files; who copies one of them is told so."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from profiler.errors import SessionFileError
from profiler.session.opening import SessionFile
from profiler.session.schema import APPLICATION_ID


def test_a_copy_without_its_log_is_not_called_foreign(tmp_path: Path) -> None:
    live, copy = tmp_path / "live.db", tmp_path / "copy.db"
    writer = sqlite3.connect(live, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    writer.execute("CREATE TABLE session (key TEXT, value TEXT)")
    shutil.copy(live, copy)
    with pytest.raises(SessionFileError, match=r"copy\.db-wal, which is not here") as found:
        SessionFile(copy)
    assert "both files" in found.value.hint
    shutil.copy(f"{live}-wal", f"{copy}-wal")
    SessionFile(copy).close()
    writer.close()


def test_an_empty_file_and_a_foreign_one_are_not_sessions(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    foreign = sqlite3.connect(tmp_path / "foreign.db", isolation_level=None)
    foreign.execute("PRAGMA journal_mode = WAL")
    foreign.execute("CREATE TABLE mine (a)")
    foreign.close()
    for name in ("empty.db", "foreign.db"):
        with pytest.raises(SessionFileError, match="no llmtop session"):
            SessionFile(tmp_path / name)
