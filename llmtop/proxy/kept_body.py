"""A request's body that can be sent once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

MAX_KEPT_BYTES: Final = 1 << 20


class KeptBody:
    """Each iteration begins with what was read before; a body beyond 1 MiB is not kept."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._parts: list[bytes] = []
        self._num_bytes = 0

    @property
    def is_whole(self) -> bool:
        """Whether another iteration gives all of it."""
        return self._num_bytes <= MAX_KEPT_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in list(self._parts):
            yield part
        async for part in self._body:
            self._num_bytes += len(part)
            if self.is_whole:
                self._parts.append(part)
            else:
                self._parts.clear()
            yield part
