"""What is refused before any process is started."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig, SchedulerConfig
from llmtop.commands.listen import open_socket
from llmtop.errors import LlmtopError
from llmtop.lifeline import read_config
from llmtop.serving import run_server
from llmtop.serving_config import ServeConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*args: object) -> None:
        raise AssertionError("a core was started")

    monkeypatch.setattr("llmtop.serving.CoreLaunch", launch)


def test_an_address_that_others_can_reach_wants_a_key():
    with pytest.raises(LlmtopError, match=r"0\.0\.0\.0 is open to the network"):
        run_server(ServeConfig(host="0.0.0.0", port=0))
    with open_socket("0.0.0.0", 0) as listener, pytest.raises(LlmtopError, match="no key"):
        run_server(ServeConfig(host="127.0.0.1", socket_fd=listener.fileno()))


def test_a_port_that_is_taken_is_one_clear_line():
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(LlmtopError, match=f"port {port} is taken") as error:
            run_server(ServeConfig(port=port))
    assert error.value.hint


def read_from(data: bytes, monkeypatch: pytest.MonkeyPatch) -> ServeConfig:
    stream = io.BytesIO(data)
    monkeypatch.setattr("llmtop.lifeline.os.read", lambda fd, count: stream.read(min(count, 100)))
    return read_config(ServeConfig)


def test_the_configuration_comes_through_standard_input_whole(monkeypatch):
    config = ServeConfig(
        engine=EngineConfig(model="m", scheduler=SchedulerConfig(max_num_seqs=3)),
        api_key="sesame",
        session_path="/x/" + 200 * "y",
    )
    assert read_from(msgspec.json.encode(config) + b"\n", monkeypatch) == config


@pytest.mark.parametrize("data", [b"", b"{}", b"[]\n", b'{"port": "x"}\n', b"\xff\n"])
def test_anything_else_in_standard_input_is_refused(monkeypatch, data):
    with pytest.raises(LlmtopError, match="holds no configuration"):
        read_from(data, monkeypatch)


def test_the_module_says_so_in_one_line():
    process = subprocess.run(
        [sys.executable, "-m", "llmtop.serving"],
        input=b"",
        capture_output=True,
        cwd=ROOT,
        env=dict(os.environ),
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.decode().splitlines() == [
        "error: standard input holds no configuration",
        "hint: use llmtop serve",
    ]
