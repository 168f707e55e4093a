"""One progress bar on standard error, gone when the work is done."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A context. Nothing is shown where standard error is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
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
