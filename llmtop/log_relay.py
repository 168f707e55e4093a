"""What a process of ours has to say, as events."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import Final

from llmtop.sanitize import clean_line
from profiler.events import AnyEvent, Log

MAX_LOG_CHARS: Final = 1000


def log_line(level: str, source: str, text: str) -> Log:
    return Log(time.monotonic_ns(), level, source, clean_line(text)[:MAX_LOG_CHARS])


class LogRelay(logging.Handler):
    """Turns warnings and errors of the libraries into log events; `publish_soon` gets them on any
    thread.

    Of an exception it tells the type and the place: its message may quote a prompt.
    """

    def __init__(self, publish_soon: Callable[[AnyEvent], object]) -> None:
        super().__init__(logging.WARNING)
        self._publish_soon = publish_soon

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = f"{text.splitlines()[0]}: {type(error).__name__}{_place(error)}"
        self._publish_soon(log_line(record.levelname.lower(), "server", text))


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
