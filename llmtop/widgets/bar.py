"""Horizontal bars with eighths of a cell, alone or stacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmtop.widgets.rows import Row

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def bar(part: float, whole: float, width: int, role: str) -> Row:
    """`part` of `whole` as exactly `width` cells; anything above zero shows at least a sliver."""
    share = 0.0 if whole <= 0 else max(0.0, min(1.0, part / whole))
    eighths = max(1, round(share * width * 8)) if share > 0 else 0
    full, rest = divmod(eighths, 8)
    head = "█" * full + (_EIGHTHS[rest] if rest else "")
    return ((head, role), ("·" * (width - len(head)), "faint"))


def stacked(parts: Sequence[tuple[float, str, str]], whole: float, width: int) -> Row:
    """Parts (amount, glyph, role) of `whole` side by side in exactly `width` cells, rest `·`.

    Cells are dealt by largest remainder; every part above zero gets at least one.
    """
    if whole <= 0:
        return (("·" * width, "faint"),)
    exact = [max(0.0, amount) * width / whole for amount, _, _ in parts]
    cells = [max(int(e), 1 if e > 0 else 0) for e in exact]
    wanted = min(width, round(sum(exact)))
    order = sorted(range(len(parts)), key=lambda i: exact[i] - int(exact[i]), reverse=True)
    for i in order:
        if sum(cells) < wanted:
            cells[i] += 1
    while sum(cells) > width:
        cells[cells.index(max(cells))] -= 1
    drawn = [(glyph * n, role) for n, (_, glyph, role) in zip(cells, parts, strict=True)]
    return (*drawn, ("·" * (width - sum(cells)), "faint"))
