"""How long threads of this process were ready to run and had no processor.

Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat: time spent waiting on
a run queue, in ns.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

OWN_THREADS: Final = Path("/proc/self/task")
# A thread's file takes 1 us to read, and there are some ten: steps of a small model that follow
# each other more quickly are not worth it.
READ_EVERY_NS: Final = 5_000_000
_LONGEST_TEXT: Final = 64


class RunDelay:
    """Keeps the files of all threads open; `close` closes them."""

    def __init__(self, threads: Path = OWN_THREADS) -> None:
        self._threads = threads
        self._files: dict[str, int] = {}
        self._waited_ns: dict[str, int] = {}
        self._t_read_ns = 0

    def longest_ns(self, t_ns: int) -> int | None:
        """The longest that a thread has waited since it was last read; None where the system does
        not tell, the first time, and within 5 ms of the time before."""
        if t_ns - self._t_read_ns < READ_EVERY_NS:
            return None
        self._t_read_ns = t_ns
        before, self._waited_ns = self._waited_ns, self._read()
        waits = [ns - before[name] for name, ns in self._waited_ns.items() if name in before]
        return max(waits, default=None)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _read(self) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            names = os.listdir(self._threads)
        except OSError:
            return found
        for name in self._files.keys() - set(names):
            os.close(self._files.pop(name))
        for name in names:
            waited_ns = self._waited(name)
            if waited_ns is not None:
                found[name] = waited_ns
        return found

    def _waited(self, name: str) -> int | None:
        try:
            file = self._files.get(name)
            if file is None:
                path = self._threads / name / "schedstat"
                file = self._files[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(file, _LONGEST_TEXT, 0).split()[1])
        except (OSError, IndexError, ValueError):  # the thread has ended, or nobody counts
            return None
