"""What is heard of a server beside its metrics page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from profiler.events import AnyEvent


class Feed(Protocol):
    """Has a thread of its own, which passes events on from `start` to `stop`."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


# Makes one that passes its events to the function it is given.
FeedOf = Callable[[Callable[[AnyEvent], None]], Feed]
