"""Clients that do not take what is sent to them."""

from __future__ import annotations

from typing import Final

from profiler.events import ClientBehind

# Told once a second while it lasts.
FRESH_NS: Final = 2_000_000_000
MOST: Final = 64


class Clients:
    """`told` holds the newest words about each request, the newest last."""

    def __init__(self) -> None:
        self.told: list[ClientBehind] = []

    def behind(self, event: ClientBehind) -> None:
        others = [known for known in self.told if known.request != event.request]
        self.told = [*others, event][-MOST:]

    def worst(self, now_ns: int) -> ClientBehind | None:
        """Who waits longest of those that still do."""
        fresh = [event for event in self.told if now_ns - event.t_ns < FRESH_NS]
        return min(fresh, key=lambda event: event.since_ns, default=None)
