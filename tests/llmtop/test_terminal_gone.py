"""A terminal that goes or takes nothing any more: what is drawn on it ends, and leaves nothing."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmtop.driver import LastingFile
from llmtop.ending import TERMINATED, Ending
from profiler.events import AnyEvent

ROOT = Path(__file__).resolve().parents[2]
SERVE = ("serve", "random:tiny", "--port", "0", "--num-threads", "1", "--session")


class Viewer:
    """The program on a pseudo-terminal that is not the one of its session: no SIGHUP comes."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(self._near, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        own = {"LLMTOP_HOME": str(home), "OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            (sys.executable, "-m", "llmtop", *arguments),
            stdin=far,
            stdout=far,
            stderr=far,
            cwd=ROOT,
            env=os.environ | own,
            start_new_session=True,
        )
        os.close(far)

    def read_until(self, words: str) -> None:
        deadline = time.monotonic() + 60
        written = ""
        while words not in written:
            assert time.monotonic() < deadline, written[-2000:]
            if select.select([self._near], [], [], 0.1)[0]:
                written += os.read(self._near, 1 << 16).decode(errors="replace")

    def wait_until_full(self) -> None:
        """What waits to be read grows with every frame, until no more has a place."""
        waiting, since = 0, time.monotonic()
        while time.monotonic() - since < 1.5:
            time.sleep(0.05)
            now = struct.unpack("i", fcntl.ioctl(self._near, termios.FIONREAD, b"0000"))[0]
            if now != waiting:
                waiting, since = now, time.monotonic()

    def close(self) -> None:
        if self._near >= 0:
            os.close(self._near)
        self._near = -1

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.close()


@pytest.fixture
def view(tmp_path: Path) -> Iterator[Callable[..., Viewer]]:
    started: list[Viewer] = []

    def start(*arguments: str) -> Viewer:
        started.append(Viewer(tmp_path, *arguments))
        return started[-1]

    yield start
    for viewer in started:
        viewer.kill()


@pytest.fixture
def recording(
    tmp_path: Path,
    events: Callable[..., list[AnyEvent]],
    record: Callable[[Path, list[AnyEvent]], Path],
) -> Path:
    return record(tmp_path / "session.db", events(20.0))


def test_a_replay_ends_with_its_terminal(view: Any, recording: Path) -> None:
    viewer = view("replay", str(recording))
    viewer.read_until("smollm2")
    viewer.close()
    assert viewer.process.wait(30) == TERMINATED


def test_a_server_ends_with_the_terminal_that_shows_it(view: Any, tmp_path: Path) -> None:
    viewer = view(*SERVE, str(tmp_path / "session.db"))
    viewer.read_until("ready")
    tasks = Path(f"/proc/{viewer.process.pid}/task").glob("*/children")
    children = {int(pid) for task in tasks for pid in task.read_text().split()}
    assert children
    viewer.close()
    assert viewer.process.wait(60) == TERMINATED
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.slow
def test_a_terminal_that_takes_nothing_keeps_nobody_from_ending_it(
    view: Any, recording: Path
) -> None:
    viewer = view("replay", str(recording))
    viewer.read_until("smollm2")
    viewer.wait_until_full()
    assert viewer.process.poll() is None, "it may take something again"
    viewer.process.send_signal(signal.SIGTERM)
    assert viewer.process.wait(30) == TERMINATED


class Broken(io.StringIO):
    def flush(self) -> None:
        raise OSError(5, "Input/output error")


def test_what_is_written_after_an_error_is_dropped() -> None:
    under = Broken()
    file = LastingFile(under)
    file.write("seen")
    file.flush()
    file.write("dropped")
    file.flush()
    assert under.getvalue() == "seen"


async def test_signals_are_as_they_were_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    ending = Ending(lambda: None)
    ending.listen()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] != before
    ending.close()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
