"""Holds a server still while another one is measured: neither takes anything from the other."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


class Halting:
    """A process and all that it has started. Whatever happens, it runs again at the end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def halt(self) -> None:
        """Parents first: they see nothing of their children's rest."""
        for pid in family(self._pid):
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in reversed(family(self._pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *error: object) -> None:
        self.resume()


def family(pid: int) -> list[int]:
    """A process and its descendants, parents before their children."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for member in found:  # grows meanwhile
        found += children.get(member, [])
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield int(folder.name), int(fields[1])
