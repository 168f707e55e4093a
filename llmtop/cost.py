"""What looking costs: the terminal's own share of a core and the bytes it writes."""

from __future__ import annotations

import time
from typing import Final

from textual.drivers.linux_driver import LinuxDriver

from llmtop.viewmodel import Cost

_WINDOW_NS: Final = 2_000_000_000


class CountingDriver(LinuxDriver):
    """Textual's driver, which also counts what it sends to the terminal."""

    bytes_written = 0

    def write(self, data: str) -> None:
        # Frames are nearly all box drawing and braille, three bytes a character in UTF-8, so
        # counting characters would be wrong by that much.
        CountingDriver.bytes_written += len(data.encode("utf-8", "surrogatepass"))
        super().write(data)


MAX_SLOW_BYTES: Final = 20 << 10


class Pace:
    """Leaves out frames of a slow picture until what was written is paid for by the time that has
    passed, at 20 KiB/s."""

    def __init__(self) -> None:
        self._owed = 0.0
        self._at_ns = 0
        self._written = 0

    def may_paint(self, now_ns: int) -> bool:
        """To be asked before each frame."""
        written = CountingDriver.bytes_written
        paid = MAX_SLOW_BYTES * (now_ns - self._at_ns) / 1e9
        self._owed = max(0.0, self._owed + written - self._written - paid)
        self._at_ns, self._written = now_ns, written
        return self._owed == 0.0


class CostMeter:
    """Reads both every two seconds; in between the last reading stands."""

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._cpu_ns = 0
        self._bytes = 0
        self._cost = Cost()

    def read(self, now_ns: int) -> Cost:
        if self._since_ns is None:
            self._mark(now_ns)
        elif now_ns - self._since_ns >= _WINDOW_NS:
            passed_ns = now_ns - self._since_ns
            cpu_ns, written = time.process_time_ns(), CountingDriver.bytes_written
            self._cost = Cost(
                cpu_pct=100.0 * (cpu_ns - self._cpu_ns) / passed_ns,
                kib_per_s=(written - self._bytes) / 1024 * 1e9 / passed_ns,
            )
            self._mark(now_ns)
        return self._cost

    def _mark(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._cpu_ns = time.process_time_ns()
        self._bytes = CountingDriver.bytes_written
