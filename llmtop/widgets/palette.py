"""Roles to colours. Colour is the second channel: every state also has its glyph and its word."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from rich.style import Style
from textual.theme import Theme

from llmtop.widgets.ownercolours import ANSI_OWNERS, DARK_OWNERS, LIGHT_OWNERS

DARK: Final = {
    **DARK_OWNERS,
    "text": "#c5cdd9",
    "dim": "#7f8a9a",
    "faint": "#465160",
    "frame": "#3a4553",
    "title": "#9fc1e0",
    "value": "bold #eef2f7",
    "key": "bold #e0b15c",
    "good": "#6fbf8f",
    "warn": "#e0b15c",
    "bad": "bold #e8707e",
    "decode": "#58b8a8",
    "prefill": "#e0a458",
    "queued": "#8b97a8",
    "preempt": "bold #e8707e",
    "done": "#5f7f98",
    "used": "#58b8a8",
    "shared": "#6d9eeb",
    "cached": "#a78bda",
    "free": "#5f6a78",
    "chart": "#58b8a8",
    "chart2": "#6d9eeb",
    "weights": "#6d9eeb",
    "kv": "#58b8a8",
    "act": "#e0a458",
    "graph": "#a78bda",
    "host": "#c58fb5",
    "other": "#5a6675",
    "cursor": "bold #0f1319 on #9fc1e0",
    "select": "bold #eef2f7 on #263445",
    "live": "bold #6fbf8f",
    "paused": "bold #0f1319 on #e0b15c",
    "replay": "bold #0f1319 on #6d9eeb",
    "bar": "#c5cdd9 on #1b2430",
    "bardim": "#8692a3 on #1b2430",
    "barvalue": "bold #eef2f7 on #1b2430",
    "tab": "bold #0f1319 on #9fc1e0",
}
LIGHT: Final = {
    **DARK,
    **LIGHT_OWNERS,
    "text": "#2c3440",
    "dim": "#5d6877",
    "faint": "#a4afbd",
    "frame": "#b4bfcc",
    "title": "#1f5c92",
    "value": "bold #10161e",
    "key": "bold #8a5a00",
    "good": "#1e7a4b",
    "warn": "#8a5a00",
    "bad": "bold #b3263a",
    "decode": "#147566",
    "prefill": "#a65f00",
    "queued": "#667283",
    "preempt": "bold #b3263a",
    "done": "#587189",
    "used": "#147566",
    "shared": "#2b5fb8",
    "cached": "#6d4bb0",
    "free": "#828d9a",
    "chart": "#147566",
    "chart2": "#2b5fb8",
    "weights": "#2b5fb8",
    "kv": "#147566",
    "act": "#a65f00",
    "graph": "#6d4bb0",
    "host": "#8f3f7a",
    "other": "#8a96a5",
    "cursor": "bold #ffffff on #1f5c92",
    "select": "bold #10161e on #d5e2ef",
    "live": "bold #1e7a4b",
    "paused": "bold #ffffff on #8a5a00",
    "replay": "bold #ffffff on #2b5fb8",
    "bar": "#2c3440 on #e1e8f0",
    "bardim": "#566170 on #e1e8f0",
    "barvalue": "bold #10161e on #e1e8f0",
    "tab": "bold #ffffff on #1f5c92",
}
ANSI: Final = {
    **dict.fromkeys(DARK, ""),
    **ANSI_OWNERS,
    "dim": "dim",
    "faint": "dim",
    "frame": "dim",
    "title": "bold cyan",
    "value": "bold",
    "key": "bold yellow",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
    "decode": "cyan",
    "prefill": "yellow",
    "preempt": "bold red",
    "used": "cyan",
    "shared": "blue",
    "cached": "magenta",
    "free": "dim",
    "chart": "cyan",
    "chart2": "blue",
    "weights": "blue",
    "kv": "cyan",
    "act": "yellow",
    "graph": "magenta",
    "host": "magenta",
    "other": "dim",
    "cursor": "reverse bold",
    "select": "reverse",
    "live": "bold green",
    "paused": "reverse bold yellow",
    "replay": "reverse bold blue",
    "barvalue": "bold",
    "tab": "reverse bold",
}
_PALETTES: Final = {"llmtop-dark": DARK, "llmtop-light": LIGHT}

THEMES: Final = (
    Theme("llmtop-dark", primary="#9fc1e0", background="#11161d", surface="#18202a", dark=True),
    Theme("llmtop-light", primary="#1f5c92", background="#f6f8fa", surface="#e9eef4", dark=False),
)
THEME_NAMES: Final = ("llmtop-dark", "llmtop-light", "ansi-dark")


@lru_cache(maxsize=512)
def style_of(theme: str, role: str) -> Style:
    """The colours of `role` under `theme`; a theme without a palette gets the 16 ANSI colours."""
    return Style.parse(_PALETTES.get(theme, ANSI)[role])
