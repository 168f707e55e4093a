import os
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
import pytest

from llmtop.cli import main
from llmtop.commands.session_files import find_session, new_session
from llmtop.commands.url import server_url
from llmtop.errors import LlmtopError
from profiler.events import AnyEvent, Log, Phase, SessionStart

Record = Callable[[Path, list[AnyEvent]], Path]
NAMES = (
    "20260101-100000-a.llmtop.db",
    "20260101-110000-b.llmtop.db",
    "20260202-090000-a.llmtop.db",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).touch()
    (tmp_path / f"{NAMES[2]}-wal").touch()
    return tmp_path


def test_a_session_is_found_by_file_by_beginning_and_as_the_newest(folder: Path) -> None:
    assert find_session("latest", folder).name == NAMES[2]
    assert find_session("20260101-11", folder).name == NAMES[1]
    assert find_session(str(folder / NAMES[0]), Path("/nowhere")) == folder / NAMES[0]


def test_the_newest_is_no_start_that_came_to_nothing(record: Record, tmp_path: Path) -> None:
    served = SessionStart(1, 1, "0", "m", "cpu", 1, 4, 16, 1, 1, 64, 8, 64)
    record(tmp_path / NAMES[0], [Phase(1, "load"), Log(2, "error", "server", "no such model")])
    record(tmp_path / NAMES[1], [Phase(1, "load")])
    assert find_session("latest", tmp_path).name == NAMES[1], "there is nothing else"
    record(tmp_path / NAMES[0].replace("100000", "103000"), [served, Phase(2, "ready")])
    assert find_session("latest", tmp_path).name.startswith("20260101-103000")


def test_what_could_be_two_sessions_is_refused(folder: Path) -> None:
    with pytest.raises(LlmtopError, match="2 sessions begin with 20260101"):
        find_session("20260101", folder)


def test_a_mistyped_session_is_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(LlmtopError) as caught:
        find_session("20260101-120000-b", folder)
    assert NAMES[1] in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://h:1/v1/", "http://h:1"),
        ("https://h/prefix/", "https://h/prefix"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("localhost", "http://localhost"),
    ],
)
def test_an_address_may_be_typed_carelessly(typed: str, meant: str) -> None:
    assert server_url(None, None, typed) == meant  # type: ignore[arg-type]


@pytest.mark.parametrize("typed", ["", "http://", "file:///etc/passwd", "h:x", "http://h\x1b[2J"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(click.BadParameter):
        server_url(None, None, typed)  # type: ignore[arg-type]


def test_a_new_session_is_named_by_time_and_model_and_never_an_old_one(tmp_path: Path) -> None:
    now, folder = datetime(2026, 3, 1, 14, 12, 7), tmp_path / "sessions"
    first = new_session(folder, "Qwen/Qwen3-8B", now)
    assert first.name == "20260301-141207-Qwen3-8B.db"
    assert folder.stat().st_mode & 0o777 == 0o700
    first.touch()
    assert new_session(folder, "Qwen/Qwen3-8B", now).name == "20260301-141207-Qwen3-8B-2.db"


@pytest.mark.parametrize("model", ["../../etc", "random:tiny", "a b\x1b[2J", ".gguf", ""])
def test_a_models_name_cannot_leave_the_folder(tmp_path: Path, model: str) -> None:
    path = new_session(tmp_path, model, datetime(2026, 3, 1))
    assert path.parent == tmp_path and path.name.isprintable() and " " not in path.name


def test_pruning_leaves_a_recording_under_way_and_what_is_no_file(
    record: Record,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    folder = tmp_path / "data" / "sessions"
    folder.mkdir(parents=True)
    closed, killed, live = (folder / f"{name}.db" for name in ("closed", "killed", "live"))
    for path in (closed, killed, live):
        record(path, [Phase(1, "load")])
    for path in (killed, live):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE session SET value = '0' WHERE key = 'clean_end'")
        connection.close()
    an_hour_ago = time.time() - 3600
    os.utime(killed, (an_hour_ago, an_hour_ago))
    (folder / "folder.db").mkdir()
    (folder / "link.db").symlink_to("nowhere")
    assert main(["sessions", "--prune", "0", "--yes"]) == 0
    said = capsys.readouterr()
    assert "removed 2 sessions" in said.out and "live is being recorded and stays" in said.err
    assert {path.name for path in folder.iterdir()} == {"folder.db", "link.db", "live.db"}
    assert main(["sessions", "--prune", "0", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().err
