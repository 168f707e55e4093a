"""A drawn line before it has colours: spans of text, each with the role it plays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size

from llmtop.sanitize import clean_line

Span = tuple[str, str]
Row = tuple[Span, ...]

EMPTY: Row = ()


def plain(row: Row) -> str:
    return "".join([text for text, _ in row])  # from a list: half the time of a generator


# What nearly all rows are made of: each of these takes one cell, and none controls a terminal. A
# row with any other character takes ten times as long.
is_plain: Final = re.compile("[ -~°-·…•←-⇿⏸-⏺─-◼⚑✓-✖⠀-⣿]*").fullmatch


def cells_of(text: str) -> int:
    """Cells that `text` takes on a terminal."""
    return len(text) if is_plain(text) else cell_len(text)


def width_of(row: Row) -> int:
    """Cells that `row` takes on a terminal."""
    return cells_of(plain(row))


def exact_row(row: Row, width: int) -> Row:
    """`row` in exactly `width` cells, neighbours of one role put together.

    Control characters are taken out: this is the last gate before the terminal.
    """
    text = plain(row)
    if is_plain(text):
        return merged(row if len(text) == width else fit_row(row, width))
    if not text.isprintable():
        row = tuple((clean_line(text), role) for text, role in row)
    return merged(fit_row(row, width))


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells, with `…` where it was cut."""
    if width <= 0:
        return ""
    if len(text) == width and text.isascii():
        return text
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def fit_row(row: Row, width: int, fill: str = "text") -> Row:
    """`row` cropped or padded to exactly `width` cells."""
    missing = width - width_of(row)
    if missing == 0:
        return row
    if missing > 0:
        return (*row, (" " * missing, fill))
    out: list[Span] = []
    left = width
    for text, role in row:
        cells = cells_of(text)
        if cells > left:
            if left:
                out.append((fit(text, left), role))
            return tuple(out)
        out.append((text, role))
        left -= cells
    return tuple(out)


def spread(left: Row, right: Row, width: int) -> Row:
    """`left` at the left edge and `right` at the right one; the right one gives way."""
    gap = width - width_of(left) - width_of(right)
    return fit_row((*left, (" " * gap, "text"), *right) if gap > 0 else left, width)


def joined(parts: Iterable[Row], gap: str = "  ") -> Row:
    out: list[Span] = []
    for part in parts:
        if out:
            out.append((gap, "text"))
        out.extend(part)
    return tuple(out)


def joined_within(parts: Sequence[Row], width: int, gap: str = "  ") -> Row:
    """As many of the first `parts` as `width` holds whole, and always the first."""
    lines = (joined(parts[:count], gap) for count in range(len(parts), 0, -1))
    return next((line for line in lines if width_of(line) <= width), joined(parts[:1]))


def first_that_fits(lines: Sequence[Row], width: int) -> Row:
    """The first of `lines` that `width` holds whole, else the last."""
    return next((line for line in lines if width_of(line) <= width), lines[-1])


def flowed(parts: Iterable[Row], width: int, gap: str = "  ") -> list[Row]:
    """`parts` on as few lines as they take; none is cut as long as it fits a line of its own."""
    lines: list[Row] = []
    line: Row = EMPTY
    for part in parts:
        longer = (*line, (gap, "text"), *part) if line else part
        if line and width_of(longer) > width:
            lines.append(line)
            longer = part
        line = longer
    return [*lines, line] if line else lines


def rule(title: Row, width: int, left: str = "─", right: str = "─", note: str = "") -> Row:
    """A horizontal line `width` cells wide that carries `title`, and `note` near its right end."""
    head: Row = ((f"{left}─ ", "frame"), *title, (" ", "frame")) if title else ((left, "frame"),)
    tail: Row = ((f" {note} ", "dim"), (f"─{right}", "frame")) if note else ((right, "frame"),)
    gap = width - width_of(head) - width_of(tail)
    if gap < 0 and note:
        return rule(title, width, left, right)
    if gap < 0:
        return (*fit_row(head, width - 1), (right, "frame"))
    return (*head, ("─" * gap, "frame"), *tail)


def with_joints(row: Row, columns: tuple[int, ...]) -> Row:
    """`row` with ┴ instead of ─ in those columns; text stays."""
    if not columns:
        return row
    out: list[Span] = []
    at = 0
    for text, role in row:
        if role == "frame":
            text = "".join("┴" if c == "─" and at + i in columns else c for i, c in enumerate(text))
        out.append((text, role))
        at += cell_len(text)
    return tuple(out)


def merged(spans: Iterable[Span]) -> Row:
    """The same line with neighbours of one role put together: fewer escape codes."""
    out: list[Span] = []
    gathered, last = "", ""
    for text, role in spans:
        if role == last:
            gathered += text
        elif text:
            if gathered:
                out.append((gathered, last))
            gathered, last = text, role
    return (*out, (gathered, last)) if gathered else tuple(out)
