"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# phase ("fetch", "convert", "measure", "load", "compile", "warmup", "graphs"), done, total (0 while
# unknown) and the unit of both
Progress = Callable[[str, int, int, str], None]


def silent(phase: str, done: int, total: int, unit: str) -> None:
    """A Progress that nobody watches."""
