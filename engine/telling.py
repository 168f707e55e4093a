"""Where the engine's events go: out at once, or kept for a while."""

from __future__ import annotations

from collections.abc import Callable

from profiler.events import AnyEvent

Make = Callable[[], AnyEvent]


class Telling:
    """Hands events to `emit`. Between `hold` and `release` it keeps them, in their order."""

    def __init__(self, emit: Callable[[AnyEvent], None]) -> None:
        self._emit = emit
        self._held: list[AnyEvent | Make] | None = None

    @property
    def is_holding(self) -> bool:
        return self._held is not None

    def __call__(self, event: AnyEvent) -> None:
        if self._held is None:
            self._emit(event)
        else:
            self._held.append(event)

    def later(self, make: Make) -> None:
        """The same for an event that costs much to make: while events are kept it is not made."""
        if self._held is None:
            self._emit(make())
        else:
            self._held.append(make)

    def hold(self) -> None:
        if self._held is None:
            self._held = []

    def release(self) -> None:
        held, self._held = self._held or (), None
        for item in held:
            self._emit(item() if callable(item) else item)
