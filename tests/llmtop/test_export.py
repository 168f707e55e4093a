"""`llmtop export` and `report` as a person runs them: whole files, nothing overwritten or left."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmtop.cli import main
from llmtop.errors import LlmtopError
from llmtop.outfile import new_file, new_folder
from profiler.events import AnyEvent, decode_event
from profiler.session.reader import SessionReader
from profiler.session.tables import table_names

Events = Callable[..., list[AnyEvent]]
Record = Callable[[Path, list[AnyEvent]], Path]
ROOT = Path(__file__).resolve().parents[2]
FORMS = ("perfetto", "csv", "json", "html")


@pytest.fixture
def session(tmp_path: Path, events: Events, record: Record) -> Path:
    return record(tmp_path / "run.db", events(4.0))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_its_owners_and_is_not_overwritten(
    form: str, session: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(session), f"--{form}"]
    assert main(arguments) == 0
    (made,) = here.iterdir()
    files = sorted(made.iterdir()) if made.is_dir() else [made]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    before = [file.read_bytes() for file in files]
    files[0].write_text("mine")
    assert main(arguments) == 1
    assert files[0].read_text() == "mine"
    assert f"{made.name} exists" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert [file.read_bytes() for file in files] == before
    assert list(here.iterdir()) == [made]


def test_csv_has_every_row_of_every_table(session: Path, here: Path) -> None:
    assert main(["export", str(session), "--csv", "-o", "tables"]) == 0
    reader = SessionReader(session)
    names = table_names(reader)
    assert sorted(path.stem for path in Path("tables").iterdir()) == sorted(names)
    for name in names:
        with Path("tables", f"{name}.csv").open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        ((count,),) = reader.query(f"SELECT count(*) FROM {name}")
        assert len(rows) == count
    reader.close()


def test_json_is_the_readers_events(session: Path, here: Path) -> None:
    assert main(["export", str(session), "--json", "-o", "e.ndjson"]) == 0
    lines = Path("e.ndjson").read_bytes().splitlines()
    reader = SessionReader(session)
    assert [(json.loads(line)["seq"], decode_event(line)) for line in lines] == list(
        reader.events()
    )
    reader.close()


def test_one_table_goes_to_standard_output(
    session: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["export", str(session), "--csv", "--table", "request", "-o", "-"]) == 0
    out = capfdbinary.readouterr().out.decode()
    assert out.startswith("request,name,t_queued_ns")
    assert main(["export", str(session), "--perfetto", "-o", "-"]) == 0
    assert json.loads(capfdbinary.readouterr().out)["traceEvents"]


@pytest.mark.parametrize(
    "wrong",
    [[], ["--csv", "--json"], ["--json", "--table", "step"], ["--csv", "-o", "-"]],
)
def test_wrong_usage_is_2(wrong: list[str], session: Path, here: Path) -> None:
    assert main(["export", str(session), *wrong]) == 2
    assert list(here.iterdir()) == []


def test_an_unknown_table_is_answered_with_the_nearest(
    session: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(session), "--csv", "--table", "steps"]) == 1
    assert "did you mean step?" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_a_damaged_session_leaves_nothing_behind(
    session: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(session.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    session.write_bytes(data)
    assert main(["export", str(session), "--csv"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("command", ["export --html", "export --csv --table request", "report"])
def test_nothing_is_written_over_the_recording_that_is_read(
    command: str, session: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command.split()
    (here / "link").symlink_to(session)
    before = session.read_bytes()
    for output in (str(session), "link"):
        assert main([name, str(session), *options, "-o", output, "--force"]) == 1
        assert "is the recording itself" in capsys.readouterr().err
    assert session.read_bytes() == before


@pytest.mark.parametrize("options", ["export --json", "export --csv", "report"])
def test_a_device_is_not_replaced_by_a_file(
    options: str, session: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who runs as root would lose /dev/null for all programs."""
    name, *form = options.split()
    os.mkfifo("pipe")
    assert main([name, str(session), *form, "-o", "pipe", "--force"]) == 1
    assert "pipe is no file" in capsys.readouterr().err
    assert Path("pipe").is_fifo() and list(here.iterdir()) == [here / "pipe"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_was_cut_short_is_gone(error: type[BaseException], tmp_path: Path) -> None:
    expected = LlmtopError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), new_file(tmp_path / "a") as out:
        out.write(b"half")
        raise error
    with pytest.raises(expected), new_folder(tmp_path / "b") as folder:
        (folder / "c").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LlmtopError, match="cannot write"), new_file(tmp_path / "no" / "a"):
        pass


def test_sigterm_leaves_no_half_file(session: Path, here: Path) -> None:
    code = (
        "import os, signal, sys; from llmtop import cli\n"
        "import llmtop.commands.exporting as exporting\n"
        "def line(seq, event):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return b''\n"
        "exporting.event_line = line\n"
        f"sys.exit(cli.main(['export', {str(session)!r}, '--json']))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=here, env=env)
    assert done.returncode == 130
    assert list(here.iterdir()) == []


def test_a_report_goes_to_standard_output_or_a_file(
    session: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(session)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("## smollm2-135m-instruct: run.db") and "| TTFT |" in out
    assert main(["report", str(session), "-o", "r.md"]) == 0
    assert Path("r.md").read_text() == out
    assert main(["report", str(session), "-o", "r.md"]) == 1
