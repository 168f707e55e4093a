"""The core's signs of life: the number of its steps so far, once a second, over a pipe of their
own. A thread sends them, so that they come in the middle of a long step and while kernels compile.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Final

BEAT_S: Final = 1.0
# Ten beats: on a machine that is short of CPU or memory, a thread may be kept waiting for seconds.
SILENT_S: Final = 10.0
# A prefill step of a large model takes minutes on a CPU; SGLang's watchdog waits as long.
STUCK_S: Final = 300.0
BEAT_BYTES: Final = 8


def start_pulse(fd: int, num_steps: Callable[[], int]) -> None:
    """Begins to beat into the pipe, until nobody reads it or this process ends."""

    def beat() -> None:
        with contextlib.suppress(OSError):
            while True:
                os.write(fd, num_steps().to_bytes(BEAT_BYTES, "little"))
                time.sleep(BEAT_S)

    threading.Thread(target=beat, name="pulse", daemon=True).start()


class Watchdog:
    """Judges by its pulse whether the core still works.

    Call `tick` every `BEAT_S`. It counts ticks, not time: a process that was itself held up, and
    has beats to read, blames nobody.
    """

    def __init__(self, silent_s: float = SILENT_S, stuck_s: float = STUCK_S) -> None:
        self._silent_s = silent_s
        self._stuck_s = stuck_s
        self._num_steps = 0
        self._silent_ticks = 0
        self._stuck_ticks = 0

    def hear(self, data: bytes) -> None:
        """Takes what was read from the pipe: one beat or more."""
        num_steps = int.from_bytes(data[-BEAT_BYTES:], "little")
        self._silent_ticks = 0
        if num_steps != self._num_steps:
            self._num_steps = num_steps
            self._stuck_ticks = 0

    def tick(self, has_work: bool) -> str:
        """What is wrong with the core, "" if nothing; without work it need not make steps."""
        self._silent_ticks += 1
        self._stuck_ticks = self._stuck_ticks + 1 if has_work else 0
        if self._silent_ticks * BEAT_S > self._silent_s:
            return f"the engine core has given no sign of life for {self._silent_s:g} s"
        if self._stuck_ticks * BEAT_S > self._stuck_s:
            return f"the engine core has been in one step for {self._stuck_s:g} s"
        return ""
