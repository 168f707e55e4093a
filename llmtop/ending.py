"""The signals that end a terminal program, and how it ends also where the terminal is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from threading import Timer
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
TERMINATED: Final = 143
GIVE_UP_S: Final = 5.0


class Ending:
    """Calls `leave` on the event loop when a signal asks for the end.

    A terminal that takes nothing (a frozen window, a dead line) holds the event loop in a write,
    and then the terminal cannot be given back: after `GIVE_UP_S` the process ends without.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._before: dict[signal.Signals, Any] = {}
        self._giving_up = Timer(GIVE_UP_S, os._exit, (TERMINATED,))
        self._giving_up.daemon = True

    def listen(self) -> None:
        """From now on, on the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._told)

    def close(self) -> None:
        """The terminal has been given back."""
        self._giving_up.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _told(self, number: int, frame: FrameType | None) -> None:
        # Not asyncio's own handler: that runs only once the event loop is free.
        if not self._giving_up.is_alive():
            self._giving_up.start()
        with contextlib.suppress(RuntimeError):  # the loop is closed: it ends already
            self._loop.call_soon_threadsafe(self._leave)
