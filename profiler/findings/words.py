"""How findings name things in a line of text."""

from __future__ import annotations

import re
from typing import Final

from profiler.state import SessionState

_NAME_CHARS: Final = 14
# All ways in which a finding's text names a request, for whoever has to take the name out again.
NAMED: Final = re.compile(
    r"(?<=prefill of )(?:.+(?= made \d+ wait)|.+$)"
    r"|(?<=preempt ).+$"
    r"|(?<=pages used, )(?:.+(?= \d+x so far)|.+$)"
)


def name_of(state: SessionState, request: int) -> str:
    """The id that the client sees, cut to fit; its number once it is forgotten."""
    view = state.requests.get(request)
    return f"#{request}" if view is None else cut_name(view.name)


def cut_name(name: str) -> str:
    """`name` without what the API puts before all of them, and not longer than fits."""
    name = name.removeprefix("chatcmpl-").removeprefix("cmpl-") or name
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
