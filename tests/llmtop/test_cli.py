import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from llmtop.cli import COMMANDS, cli, main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmtop", *arguments],
        cwd=ROOT,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    monkeypatch.delenv("LLMTOP_API_KEY", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_begins_as_the_list_says_and_shows_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert COMMANDS[name] in text
    assert "Examples:" in text and f"llmtop {name}" in text
    assert "--debug" in text


def test_help_alone_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "llmtop serve" in text


def test_help_loads_no_library_but_click() -> None:
    code = (
        "import sys; from llmtop.cli import main; main(['--help']);"
        "print(*(m for m in ('httpx', 'textual', 'msgspec', 'torch', 'rich', 'asyncio', 'sqlite3')"
        " if m in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("serv",), "did you mean serve?"),
        (("zzz",), "there is no command"),
        (("attach", "ftp://host"), "is not an address"),
        (("attach", "http://u:p@host"), "--api-key-env"),
        (("attach", "http://ho st"), "is not an address"),
        (("attach", "http://host:99999"), "is not an address"),
        (("load", "h", "--input-len", "9-2"), "is not a length"),
        (("load", "h", "--goodput", "fast:3"), "ttft"),
        (("load", "h", "--goodput", "ttft"), "NAME:MS"),
        (("load", "h", "--shared-prefix-share", "0.5"), "need each other"),
        (("load", "h", "--json", "/no/such/folder/x.json"), "no folder"),
        (("load", "h", "--goodput", "ttft:nan"), "above 0"),
        (("load", "h", "--request-rate", "nan"), "not a finite number"),
        (("load", "h", "--duration", "inf"), "not a finite number"),
        (("load", "h", "--concurrency", "99999999"), "not in the range"),
        (("sessions", "--prune", "nan"), "not a finite number"),
        (("tune", "--budget", "nan"), "not a finite number"),
        (("proxy", "--upstream", "h", "--silence-timeout", "nan"), "not a finite number"),
        (("serve", "--gpu-memory-utilization", "nan"), "not a finite number"),
        (("serve", "--seed", "9" * 20), "not in the range"),
        (("serve", "--shutdown-timeout", "inf"), "not a finite number"),
        (("serve", "--block-size", "0"), "not in the range"),
        (("serve", "--max-model-len", "4q"), "not a number"),
        (("serve", "--no-record", "--session", "x.db"), "exclude"),
        (("serve", "--kv-cache-dtype", "int3"), "is not one of 'auto', 'fp8', 'int8'"),
        (("serve", "--kv-config", "/no/such/file.yaml"), "does not exist"),
        (("serve", "--kv-config", "/"), "is a directory"),
        (("serve", "--kv-config", __file__, "--kv-cache-dtype", "int4"), "exclude each other"),
        (("serve", "--kv-sink-pages", "65"), "not in the range"),
        (("serve", "--no-observe"), "--headless"),
        (("serve", "--frobnicate"), "No such option"),
        (("replay", "--speed", "99"), "not in the range"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint_and_exit_code_2(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert word in error
    lines = error.strip().splitlines()
    assert lines[0].startswith("error: ") and lines[-1].startswith("hint: ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("serve", "--host", "0.0.0.0"), "LLMTOP_API_KEY"),
        (("serve", "--host", "nonsense.invalid", "--api-key", "k"), "no address of this machine"),
        (("load", "127.0.0.1:9", "--num-prompts", "1"), "is the server up"),
        (("replay", "nothing"), "there is no file nothing, and no session in"),
        (("replay", "./no/such.db"), "there is no file ./no/such.db\n"),
        (("replay", "/"), "is a folder"),
        (("replay",), "llmtop serve records one"),
    ],
)
def test_a_failure_is_one_line_without_a_traceback_and_exit_code_1(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert word in error
    assert "Traceback" not in error


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "nothing", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("llmtop.commands.session_files.find_session", explode)
    assert main(["replay"]) == 1
    assert "unexpected ZeroDivisionError: surprise" in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmtop.commands.session_files.find_session", interrupt)
    assert main(["replay"]) == 130


def test_serve_without_the_engine_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmtop.commands.extras.ENGINE_MODULES", ("torch_that_is_missing", "zmq"))
    assert main(["serve", "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert "torch_that_is_missing" in error and "zmq" not in error
    assert "pip install -e '.[engine]'" in error


def test_output_into_a_closed_pipe_ends_quietly() -> None:
    script = f"'{sys.executable}' -m llmtop completion bash | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_output_without_room_is_no_bug() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "llmtop", "keys"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    first, hint = done.stderr.splitlines()
    assert first == "error: cannot write: No space left on device" and hint.startswith("hint: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_for_words_that_we_then_give(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0 and "_LLMTOP_COMPLETE" in done.stdout
    words = {"COMP_WORDS": "llmtop re", "COMP_CWORD": "1", "_LLMTOP_COMPLETE": "bash_complete"}
    assert "replay" in run(env=words).stdout


def test_models_are_listed_with_the_default_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "default" in capsys.readouterr().out.splitlines()[0]
    assert main(["models", "--json"]) == 0
    names = [model["name"] for model in json.loads(capsys.readouterr().out)]
    assert "random:qwen2.5-7b" in names


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["replay", ""], ["plain,latest", "plain,20260102-x", "plain,20260101-x"]),
        (["compare", "latest", "20260101"], ["plain,20260101-x"]),
        (["export", "./some"], ["file,./some"]),
        (["explain", "x", "--slo", "guidellm-ch"], ["plain,guidellm-chat"]),
        (["serve", "random:ti"], ["plain,random:tiny"]),
        (["eval", "./folder"], ["file,./folder"]),
    ],
)
def test_recordings_models_and_presets_are_completed_and_else_files(
    words: list[str], expected: list[str], home: Path
) -> None:
    folder = home / "data" / "sessions"
    folder.mkdir(parents=True)
    for name in ("20260101-x.db", "20260102-x.db"):
        (folder / name).touch()
    completion = BashComplete(cli, {}, "llmtop", "_LLMTOP_COMPLETE")
    found = completion.get_completions(words[:-1], words[-1])
    assert [completion.format_completion(item) for item in found] == expected
