"""The terminal that the dashboard would be drawn on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Final

from llmtop.checks.check import Check

MIN_COLUMNS: Final = 60
MIN_LINES: Final = 16


def screen(environment: Mapping[str, str] = os.environ) -> Check:
    if not sys.stdout.isatty():
        return Check("terminal", "ok", "none: plain lines instead of the dashboard")
    columns, lines = shutil.get_terminal_size()
    detail = f"{environment.get('TERM', '')} {columns}x{lines}, {_colours(environment)}"
    if environment.get("TERM") in (None, "", "dumb"):
        return Check("terminal", "warn", detail, "set TERM, such as xterm-256color")
    if columns < MIN_COLUMNS or lines < MIN_LINES:
        hint = f"the dashboard needs {MIN_COLUMNS}x{MIN_LINES}"
        return Check("terminal", "warn", detail, hint)
    if "utf" not in (sys.stdout.encoding or "").lower():
        return Check("terminal", "warn", f"{detail}, no UTF-8", "set LANG, such as C.UTF-8")
    return Check("terminal", "ok", detail)


def _colours(environment: Mapping[str, str]) -> str:
    if environment.get("NO_COLOR"):
        return "no colour (NO_COLOR)"
    if environment.get("COLORTERM") in ("truecolor", "24bit"):
        return "true colour"
    return "256 colours" if "256" in environment.get("TERM", "") else "16 colours"
