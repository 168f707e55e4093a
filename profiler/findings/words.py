"""How findings name things in a line of text."""

from __future__ import annotations

from typing import Final

from profiler.state import SessionState

_NAME_CHARS: Final = 14


def name_of(state: SessionState, request: int) -> str:
    """The id that the client sees, without what the API puts before all of them, cut to fit."""
    view = state.requests.get(request)
    if view is None:
        return f"#{request}"
    name = view.name.removeprefix("chatcmpl-").removeprefix("cmpl-") or view.name
    return name if len(name) <= _NAME_CHARS else f"{name[: _NAME_CHARS - 1]}…"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
