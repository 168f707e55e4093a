"""The instant a state stands at."""

from __future__ import annotations

from typing import Final

NS_PER_S: Final = 1_000_000_000


class Clock:
    """Set by the state, read by the folds whose windows move with time. It never ticks itself."""

    __slots__ = ("t_ns",)

    def __init__(self) -> None:
        self.t_ns = 0

    @property
    def second(self) -> int:
        return self.t_ns // NS_PER_S
