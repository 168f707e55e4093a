"""The session on the screen as one side of a comparison, and the two sides together."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from llmtop.errors import LlmtopError
from llmtop.sources.base import Source
from profiler.compare.comparison import Comparison, compare
from profiler.compare.ring_run import ring_run
from profiler.compare.run import Run, read_run
from profiler.errors import SessionFileError


class Sides(NamedTuple):
    """A recording of this machine, and what is on the screen."""

    chosen: Run
    shown: Run


class OnScreen:
    """What `source` shows: its file, or where it has none the ring that it keeps."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def file(self) -> Path | None:
        """None where there is no file of it on this machine, or not yet."""
        path = self._source.session_file
        return path if path is not None and path.exists() else None

    @property
    def words(self) -> str:
        """What it is, before the name of the file if there is one."""
        if self._source.replay is not None:
            return "the recording on the screen"
        if self.file is not None:
            return "the recording so far"
        return "what is kept in memory of this server, at most the last five minutes"

    def reaches(self, t_ns: int) -> bool:
        """Whether the time cursor can be put there."""
        ring = self._source.ring
        return ring is None or ring.start_ns <= t_ns <= ring.end_ns

    def read(self) -> Run:
        """Raises: SessionFileError."""
        file, ring = self.file, self._source.ring
        return ring_run(ring) if file is None and ring is not None else _read(file)


def _read(file: Path | None) -> Run:
    if file is None:
        raise SessionFileError("the recording on the screen is no longer there")
    return read_run(file)


def read_sides(chosen: Path, shown: OnScreen) -> Sides:
    """Raises: SessionFileError. For a thread of its own: it reads two whole recordings."""
    return Sides(read_run(chosen), shown.read())


def held_against(sides: Sides, swapped: bool) -> Comparison:
    """The session on the screen held against the other, or the other against it if `swapped`.

    For a thread of its own: it draws a thousand samples. Raises: LlmtopError.
    """
    a, b = (sides.shown, sides.chosen) if swapped else sides
    try:
        return compare(a, b)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        # Numbers that no recorder of ours writes, in a file that opens all the same.
        raise LlmtopError(f"{sides.chosen.path.name} cannot be compared: {error}") from None
