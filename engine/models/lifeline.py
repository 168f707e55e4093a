"""Child processes that do not outlive us, however we end."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # Source: prctl(2)


def dying_with_parent() -> Callable[[], None] | None:
    """A function to run in a child before exec: the kernel then ends it with its parent.

    None where the system has no such call.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: no allocation after it

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return arm
