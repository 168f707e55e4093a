"""What the engine last said of the cost of being observed."""

from __future__ import annotations

from profiler.events import ObserverCost


class Observing:
    """`last` is None before anybody asked for it."""

    def __init__(self) -> None:
        self.last: ObserverCost | None = None

    def told(self, event: ObserverCost) -> None:
        self.last = event

    @property
    def is_under_way(self) -> bool:
        return self.last is not None and self.last.status in ("observed", "unobserved")

    @property
    def is_late(self) -> bool:
        """Whether what happens from here on is told later: time is not to pass before that."""
        return self.last is not None and self.last.withholds
