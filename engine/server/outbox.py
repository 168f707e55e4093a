"""What is being written to clients, and whose client does not take it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from engine.server.generation import Generation
from profiler.events import ClientBehind

BEHIND_NS: Final = 1_000_000_000


class Outbox:
    """Lives on the event loop. A write waits once the buffers on the way to a client are full."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._since_ns: dict[Generation, int] = {}

    async def passing(
        self, generation: Generation, parts: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """The same `parts`; who asks for the next one has written the one before."""
        try:
            async for part in parts:
                self._since_ns[generation] = self._clock()
                yield part
                del self._since_ns[generation]
        finally:
            self._since_ns.pop(generation, None)
            await parts.aclose()

    def behind(self) -> list[ClientBehind]:
        """An event for each generation whose write has waited for a second or more."""
        now_ns = self._clock()
        return [
            ClientBehind(now_ns, generation.requests[0].request, since_ns, generation.num_unsent)
            for generation, since_ns in self._since_ns.items()
            if now_ns - since_ns >= BEHIND_NS
        ]
