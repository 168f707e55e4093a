"""How late the client's own event loop runs: the error in every latency that it measures."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final

PERIOD_S: Final = 0.01


class LoopLag:
    """Asks the loop to wake it every 10 ms, and notes by how much it came too late."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopLag:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + PERIOD_S
            await asyncio.sleep(PERIOD_S)
            self.lags_ms.append(1e3 * (time.monotonic() - due))
