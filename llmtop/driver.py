"""What draws on the terminal and reads its keys, and hears when the terminal has gone."""

from __future__ import annotations

import contextlib
import os
import select
from threading import Thread
from typing import Any, TextIO

from textual.driver import Driver
from textual.message import Message

from llmtop.commands.terminal import in_browser
from llmtop.cost import CountingDriver


class TerminalGone(Message):
    """Nobody sees what is drawn, and no key will come."""


class LastingFile:
    """`file`, but once it cannot be written to, what is written is dropped.

    Textual writes from a thread behind a short queue. If that thread died of an error, the event
    loop would soon wait for ever for a place in the queue.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._gone = False

    def write(self, text: str) -> None:
        if not self._gone:
            try:
                self._file.write(text)
            except OSError:
                self._gone = True

    def flush(self) -> None:
        if not self._gone:
            try:
                self._file.flush()
            except OSError:
                self._gone = True

    def fileno(self) -> int:
        return self._file.fileno()


class TerminalDriver(CountingDriver):
    """Textual's driver, which tells the app when the terminal has gone.

    The system sends SIGHUP only to the session whose terminal it is: not where a program that
    ended started us on a terminal of its own making.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._file: Any = LastingFile(self._file)
        self._hangup = Thread(target=self._await_hangup, name="hangup", daemon=True)

    def run_input_thread(self) -> None:
        if not self._hangup.is_alive() and os.isatty(self.fileno):
            self._hangup.start()
        with contextlib.suppress(OSError):  # the terminal has gone
            super().run_input_thread()

    def _await_hangup(self) -> None:
        _hung_up(self.fileno, None)
        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):  # last words would be one more error each
            if _hung_up(number, 0):
                os.dup2(null, number)
        os.close(null)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program has ended
            self.send_message(TerminalGone())


def _hung_up(number: int, timeout_ms: int | None) -> bool:
    """Whether nobody is on the far side of a file descriptor; waits that long for it, None: until
    it is so."""
    poll = select.poll()
    poll.register(number, 0)  # a hang-up is told unasked
    return bool(poll.poll(timeout_ms))


def driver_class() -> type[Driver]:
    """The driver of a terminal or, where textual-serve has started us, of a browser."""
    if not in_browser():
        return TerminalDriver
    from textual.drivers.web_driver import WebDriver

    class CountingWebDriver(WebDriver):
        def write(self, data: str) -> None:
            CountingDriver.bytes_written += len(data.encode("utf-8", "surrogatepass"))
            super().write(data)

    return CountingWebDriver
