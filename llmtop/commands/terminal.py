"""Whether a person looks at a terminal that can be drawn on."""

from __future__ import annotations

import os
import sys


def in_browser() -> bool:
    """Whether textual-serve runs us: it draws in a browser what we write into a pipe."""
    return os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver")


def has_terminal() -> bool:
    if in_browser():
        return True
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
