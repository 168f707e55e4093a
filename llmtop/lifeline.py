"""How a server process of ours is told what to do and when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from llmtop.errors import LlmtopError

STDIN: Final = 0
INTERRUPTED: Final = 130
MAX_CONFIG_BYTES: Final = 1 << 20
C = TypeVar("C", bound=msgspec.Struct)


def read_config(kind: type[C]) -> C:
    """The configuration in the first line of standard input. Raises: LlmtopError."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(STDIN, 1 << 16)
        data += chunk
        if not chunk or len(data) > MAX_CONFIG_BYTES:
            raise LlmtopError("standard input holds no configuration", "use llmtop serve")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise LlmtopError(f"standard input holds no configuration: {error}") from None


class Stopping:
    """`asked` is set by a signal, by `ask`, or with `lifeline` by the end of standard input;
    `hurry` when it is asked for again: then nobody waits for the requests that run."""

    def __init__(self, lifeline: bool) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self._lifeline = lifeline
        self._signal = 0

    def listen(self) -> None:
        """From now on, on the event loop that runs."""
        loop = asyncio.get_running_loop()
        for number in _stop_signals():
            loop.add_signal_handler(number, self._on_signal, number)
        if self._lifeline:
            threading.Thread(target=_wait_for_stdin, args=(loop, self.ask), daemon=True).start()

    def ask(self) -> None:
        if self.asked.is_set():
            self.hurry.set()
        self.asked.set()

    @property
    def exit_code(self) -> int:
        return INTERRUPTED if self._signal == signal.SIGINT else 0

    def _on_signal(self, number: int) -> None:
        self._signal = self._signal or number
        self.ask()


def _stop_signals() -> list[signal.Signals]:
    """Those that ask for a drain; nohup means that the end of the terminal does not."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def _wait_for_stdin(loop: asyncio.AbstractEventLoop, at_end: Callable[[], None]) -> None:
    while os.read(STDIN, 1 << 10):
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
        loop.call_soon_threadsafe(at_end)
