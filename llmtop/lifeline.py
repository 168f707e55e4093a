"""How a server process of ours is told what to do and when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from llmtop.errors import LlmtopError

STDIN: Final = 0
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


def stop_signals() -> list[signal.Signals]:
    """Those that ask for a drain; nohup means that the end of the terminal does not."""
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals


def wait_for_stdin(loop: asyncio.AbstractEventLoop, at_end: Callable[[], None]) -> None:
    while os.read(STDIN, 1 << 10):
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed: the server has stopped
        loop.call_soon_threadsafe(at_end)
