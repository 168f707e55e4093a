"""A program of ours in a pseudo-terminal: what it takes, what it writes, and its last words."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

from servers import end, environment

_KEPT_BYTES = 1 << 16
_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b.|[\x00-\x09\x0b-\x1f]"
)


class Terminal:
    """`command` on the far side of a pseudo-terminal; all that it writes is read and counted.

    It gets what a real terminal would give it, whatever this process was started from: a
    description of itself, colours, and a session of its own.
    """

    def __init__(self, command: Sequence[str], width: int, height: int) -> None:
        self._near, far = pty.openpty()
        self.resize(width, height)
        self._process = subprocess.Popen(
            command,
            env=environment(TERM="xterm-256color", COLORTERM="truecolor", NO_COLOR=""),
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
        )
        os.close(far)
        self.num_bytes = 0
        self._last = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def resize(self, width: int, height: int) -> None:
        """The program hears of it at once."""
        fcntl.ioctl(self._near, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._near, keys)

    def cpu_s(self) -> float:
        """Seconds of CPU so far, all threads together. Exits with its words if it has ended."""
        self.check()
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self) -> None:
        status = self._process.poll()
        if status is not None:
            self._reading.join(1)
            sys.exit(f"the terminal ended with {status}:\n{readable(self._last)}")

    def close(self) -> None:
        end(self._process)
        self._reading.join(1)
        os.close(self._near)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._near, 1 << 16)
            except OSError:  # the far side has gone
                return
            self.num_bytes += len(data)
            self._last = (self._last + data)[-_KEPT_BYTES:]


def readable(written: bytes, lines: int = 20) -> str:
    """The last lines of what a terminal was sent, without control sequences."""
    text = _CONTROLS.sub("", written.decode("utf-8", "replace"))
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])
