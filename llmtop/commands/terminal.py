"""Whether a person looks at a terminal that can be drawn on."""

from __future__ import annotations

import os
import sys


def has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
