"""Real server processes, each with its core, started as the terminal starts them."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from engine.config import EngineConfig
from llmtop.commands.listen import open_socket, url_of
from llmtop.serving_config import ServeConfig

ROOT = Path(__file__).resolve().parents[3]
READY_S = 180.0


class Server:
    """A server process. `core_pid` is its core's; `session` the file that it records into."""

    def __init__(self, folder: Path, model: str = "random:tiny", **config: Any) -> None:
        listener = open_socket("127.0.0.1", 0)
        self.url = url_of(listener)
        self.session = folder / "session.db"
        engine = config.pop("engine", EngineConfig(model=model, device="cpu", num_threads=1))
        self.config = ServeConfig(
            engine=engine,
            socket_fd=listener.fileno(),
            session_path=str(self.session),
            **config,
        )
        self.stderr = folder / "stderr"
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "llmtop.serving"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=(listener.fileno(),),
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        listener.close()
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(self.config) + b"\n")
        self.process.stdin.flush()
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def wait_until_ready(self) -> Server:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.stderr.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if self.client.get("/health").status_code == 200:
                    return self
            time.sleep(0.02)
        raise AssertionError("the server was not ready in time")

    @property
    def core_pid(self) -> int:
        return child_of(self.process.pid)

    def close_lifeline(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self, within_s: float = 60.0) -> int:
        """The exit code. Fails if the process still runs after that time."""
        return self.process.wait(within_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.client.close()


class Terminal:
    """`llmtop serve` in a terminal of its own, which nobody looks at. It serves the tiny model."""

    def __init__(self, folder: Path) -> None:
        self.session = folder / "session.db"
        self._screen, terminal = pty.openpty()
        flags = ("--port", "0", "--num-threads", "1", "--session", str(self.session))
        self.process = subprocess.Popen(
            (sys.executable, "-m", "llmtop", "serve", "random:tiny", *flags),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(terminal)
        threading.Thread(target=self._look, daemon=True).start()

    def press(self, key: str) -> None:
        os.write(self._screen, key.encode())

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _look(self) -> None:
        """A terminal that takes nothing would block who writes to it."""
        with contextlib.suppress(OSError):  # Linux: the last writer is gone
            while os.read(self._screen, 1 << 16):
                pass
        os.close(self._screen)


def child_of(pid: int) -> int:
    """The process that this one started first, of any of its threads."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return min(int(child) for thread in threads for child in thread.read_text().split())


def gone(pid: int, within_s: float = 30.0) -> bool:
    """Whether a process that is not ours to wait for has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX":
            return True
        time.sleep(0.01)
    return False


StartServer = Callable[..., Server]


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts a server without waiting for it; all are gone at the end of the module."""
    servers: list[Server] = []

    def start(**config: Any) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("server"), **config))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def openai() -> Any:
    """OpenAI's own client. Its import takes as long as torch's, so it waits for its tests."""
    import openai

    return openai


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.kill()


@pytest.fixture(scope="module")
def child() -> Callable[[int], int]:
    return child_of


@pytest.fixture(scope="module")
def process_gone() -> Callable[[int], bool]:
    return gone
