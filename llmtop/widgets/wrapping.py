"""Text broken into lines by the cells it takes, wide characters included."""

from __future__ import annotations

import re
from typing import Final

from rich.cells import cell_len, chop_cells

_WORD: Final = re.compile(r"\s*\S+\s*|\s+")


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells; breaks at spaces, and inside words that are longer."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _paragraph(paragraph, max(2, width))
    return lines


def _paragraph(text: str, width: int) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in _WORD.findall(text):
        if cell_len(line + word.rstrip()) <= width:
            line += word
            continue
        if line:
            lines.append(line.rstrip())
        head = word if not line else word.lstrip()
        *full, line = chop_cells(head, width) if cell_len(head.rstrip()) > width else [head]
        lines += full
    return [*lines, line.rstrip()]
