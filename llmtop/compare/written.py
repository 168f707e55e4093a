"""A comparison as text, the same from the command and from the screen."""

from __future__ import annotations

from typing import Final

import msgspec

from llmtop.compare.markdown import markdown
from profiler.compare.comparison import Comparison

FORMS: Final = ("md", "json")


def written(comparison: Comparison, form: str) -> str:
    """All of it in one of FORMS, without a newline at its end."""
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode()
    return markdown(comparison)
