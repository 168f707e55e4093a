"""The viewer's place in the queue for the processor: behind what it watches."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

NICENESS: Final = 10


def give_way() -> None:
    """Lowers the priority of the calling thread, and of those that it starts from then on.

    An engine on the CPU computes with one thread a core, which meet after every piece of work: a
    frame that takes a core from one of them holds up all. At a lower priority a frame is drawn in
    the gaps that every step has, where only one of those threads is at work, or a little later.
    """
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):  # a viewer may live without
        lowered = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, lowered)
