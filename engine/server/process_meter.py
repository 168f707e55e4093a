"""CPU time and memory of one process, from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from profiler.events import ProcessSample

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat counted from the one after the name, which may hold spaces.
UTIME, STIME, RSS = 11, 12, 21


class ProcessMeter:
    """Samples one process. The first sample only sets the mark for the CPU share."""

    def __init__(self, role: str, pid: int, proc: Path = Path("/proc")) -> None:
        self._role = role
        self._pid = pid
        self._stat = proc / str(pid) / "stat"
        self._cpu_s = 0.0
        self._t_ns = 0

    def sample(self, t_ns: int) -> ProcessSample | None:
        """The share of one core since the last sample; None at first and for a gone process."""
        try:
            fields = self._stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        cpu_s = (int(fields[UTIME]) + int(fields[STIME])) / TICKS_PER_S
        used_s, passed_ns, first = cpu_s - self._cpu_s, t_ns - self._t_ns, self._t_ns == 0
        self._cpu_s, self._t_ns = cpu_s, t_ns
        if first or passed_ns <= 0:
            return None
        cpu_pct = 100e9 * used_s / passed_ns
        rss_bytes = int(fields[RSS]) * PAGE_BYTES
        return ProcessSample(t_ns, self._role, self._pid, cpu_pct, rss_bytes)
