"""Numbers the requests and tells of them, tokens in batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from profiler.events import AnyEvent, TokenArrival, TokensReceived

# An event a token would cost more than the token's way through the proxy.
GATHER_S: Final = 0.05


class Ledger:
    """Lives on the event loop. `publish` gets the events, in an order that the folds understand."""

    def __init__(self, publish: Callable[[AnyEvent], None]) -> None:
        self._publish = publish
        self._arrivals: list[TokenArrival] = []
        self._telling: asyncio.TimerHandle | None = None
        self.num_requests = 0

    def next_number(self) -> int:
        self.num_requests += 1
        return self.num_requests

    def tell(self, event: AnyEvent) -> None:
        self._publish(event)

    def arrived(self, request: int, t_ns: int, num_tokens: int) -> None:
        """Told within 50 ms, or when a request ends."""
        self._arrivals.append(TokenArrival(request, t_ns, num_tokens))
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(GATHER_S, self.flush)

    def flush(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._arrivals:
            self._publish(TokensReceived(time.monotonic_ns(), tuple(self._arrivals)))
            self._arrivals.clear()
