"""One progress bar on standard error, gone when the work is done; lines where it is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

TELL_EVERY_S: Final = 30.0


class Bar:
    """A context. Where standard error is no terminal, a line every 30 s says how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(stderr=True)
        self._is_plain = not console.is_terminal
        self._clock = clock
        self._told_s = clock()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=self._is_plain,
        )
        self._name = ""
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def counting(self, name: str, unit: str) -> Callable[[int, int], None]:
        """A function that is told how much of this phase is done, of how much."""
        return lambda done, total: self.phase(name, done, total, unit)

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        """As the engine tells how far it is; `total` 0 is unknown."""
        described = f"{name} ({unit})" if unit else name
        if described != self._name:
            self._name = described
            self._progress.reset(self._task, description=described)
        self._progress.update(self._task, completed=done, total=total or None)
        if self._is_plain and self._clock() - self._told_s >= TELL_EVERY_S:
            self._told_s = self._clock()
            of = f" of {total}" if total else ""
            click.echo(f"{name}: {done}{of} {unit}".rstrip(), err=True)
