"""The server as the terminal's child: its start, its stream, its end and its death."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.config import EngineConfig
from llmtop.app import LlmtopApp
from llmtop.serving_config import ServeConfig
from llmtop.sources.engine import EngineSource
from profiler.state import SessionState


def listening() -> tuple[socket.socket, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


def until(source: EngineSource, wanted: Callable[[SessionState], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not wanted(source.poll(time.monotonic_ns())):
        assert time.monotonic() < deadline, source.connection
        time.sleep(0.02)


def is_ready(state: SessionState) -> bool:
    return any(span.name == "ready" for span in state.phases.spans)


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[EngineSource, str]]:
    """A real server of the smallest model, started as `llmtop serve` starts it."""
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    listener, url = listening()
    config = ServeConfig(
        engine=EngineConfig(model="random:tiny", num_threads=1, num_gpu_blocks_override=256),
        socket_fd=listener.fileno(),
        session_path=str(tmp_path / "session.db"),
    )
    source = EngineSource(config, listener, url)
    source.start()
    yield source, url
    source.stop()


async def test_a_real_server_from_start_to_its_death(
    serving: tuple[EngineSource, str], text_of: Callable[[Any], str]
) -> None:
    source, url = serving
    assert source.connection.status == "starting"
    until(source, is_ready, 60)
    body = {"model": "random:tiny", "prompt": "once", "max_tokens": 12, "ignore_eos": True}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    until(source, lambda state: state.requests.num_finished == 1, 30)
    assert source.bytes_recorded

    app = LlmtopApp(source, url)
    source.start = lambda: None  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        app.frame()
        await pilot.pause()
        text = text_of(app)
        assert "● LIVE random:tiny" in text
        assert "done 1" in text
        pid = source.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while app.return_value is None and time.monotonic() < deadline:
            await pilot.pause(0.05)
    assert app.return_value == 1
    assert source.connection.detail == "the server was killed by signal 9"


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_not_said_to_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    blocked = tmp_path / "no-folder" / "session.db"
    listener, url = listening()
    config = ServeConfig(
        engine=EngineConfig(model="random:tiny", num_threads=1, num_gpu_blocks_override=256),
        socket_fd=listener.fileno(),
        session_path=str(blocked),
    )
    source = EngineSource(config, listener, url)
    source.start()
    try:
        until(source, is_ready, 60)
        assert source.bytes_recorded is None
        kept = source.keep()
        assert kept.startswith("keeping"), kept
        until(source, lambda state: bool(source.bytes_recorded), 30)
        assert source.session_file != blocked
    finally:
        source.stop()


def test_closing_the_lifeline_stops_the_server_cleanly(
    serving: tuple[EngineSource, str],
) -> None:
    source, _ = serving
    until(source, is_ready, 60)
    source.stop()
    assert source.connection.status == "ended"


def said(script: str) -> EngineSource:
    """A source whose server is `script`, which gets its configuration on standard input."""
    listener, url = listening()
    config = ServeConfig(socket_fd=listener.fileno(), drain_timeout_s=0.0)
    source = EngineSource(config, listener, url, (sys.executable, "-c", script))
    source.start()
    return source


def test_a_server_that_gives_up_is_quoted() -> None:
    script = """
import sys
print("noise", file=sys.stderr)
print("error: model.gguf is cut off", file=sys.stderr)
print("hint: fetch it again", file=sys.stderr)
sys.exit(1)
"""
    source = said(script)
    until(source, lambda _: source.connection.status == "failed", 30)
    assert source.connection.detail == "model.gguf is cut off"
    assert source.connection.hint == "fetch it again"
    source.stop()


def test_a_server_that_ends_without_a_word_is_named_by_its_status() -> None:
    source = said("import sys; sys.exit(3)")
    until(source, lambda _: source.connection.status == "failed", 30)
    assert source.connection.detail == "the server ended with status 3"
    source.stop()


def test_the_child_gets_its_configuration_and_the_end_of_input() -> None:
    script = "import sys, json; json.loads(sys.stdin.readline()); sys.stdin.read(); sys.exit(0)"
    source = said(script)
    time.sleep(0)
    assert source.connection.status == "starting"
    source.stop()
    assert source.connection.status == "ended"
