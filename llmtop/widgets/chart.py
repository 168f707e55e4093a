"""A braille chart whose axis begins at zero and ends at a stated round number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Final

from llmtop.format import nice_ceiling
from llmtop.widgets.rows import Row

_LEFT: Final = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT: Final = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
_LEFT_DOT: Final = (0x40, 0x04, 0x02, 0x01)
_RIGHT_DOT: Final = (0x80, 0x20, 0x10, 0x08)

Values = Sequence[float | None]


def scale_of(values: Values) -> float:
    """The top of the axis: a round number that no value exceeds."""
    return nice_ceiling(max((v for v in values if v is not None), default=0.0))


def area(values: Values, width: int, height: int, top: float, role: str = "chart") -> list[Row]:
    """`height` rows of `width` cells, newest value at the right, two values a cell, filled.

    A None is a gap and draws nothing; a value above zero draws at least one dot.
    """
    dots = [_dots(v, top, height) for v in _newest(values, 2 * width)]
    rows: list[Row] = []
    for line in range(height):
        below = 4 * (height - 1 - line)
        cells = (
            0x2800 + _LEFT[_within(left, below)] + _RIGHT[_within(right, below)]
            for left, right in zip(dots[::2], dots[1::2], strict=True)
        )
        rows.append(((_blank_as_space(cells), role),))
    return rows


def line(values: Values, width: int, height: int, top: float, role: str = "chart") -> list[Row]:
    """Like `area`, but only the upper edge, joined vertically."""
    if height < 1:
        return []
    dots = [_dots(v, top, height) for v in _newest(values, 2 * width)]
    cells = [[0] * width for _ in range(height)]
    for x, (before, now) in enumerate(pairwise([dots[0], *dots])):
        if now == 0:
            continue
        low, high = sorted((now, before or now))
        for level in range(low if low == now else low + 1, high + 1):
            _set_dot(cells, x, level)
    return _rows_of(cells, role)


def marks(values: Values, width: int, height: int, top: float, role: str) -> list[Row]:
    """Like `line`, but a dot a value, joined with nothing; values above `top` are left out."""
    dots = [
        0 if v is None or v > top else _dots(v, top, height) for v in _newest(values, 2 * width)
    ]
    cells = [[0] * width for _ in range(height)]
    for x, level in enumerate(dots):
        if level:
            _set_dot(cells, x, level)
    return _rows_of(cells, role)


def _set_dot(cells: list[list[int]], x: int, level: int) -> None:
    """Column `x`, two a cell; `level` counts dots from the bottom, from 1."""
    column = _LEFT_DOT if x % 2 == 0 else _RIGHT_DOT
    cells[len(cells) - 1 - (level - 1) // 4][x // 2] |= column[(level - 1) % 4]


def _rows_of(cells: list[list[int]], role: str) -> list[Row]:
    return [((_blank_as_space(0x2800 + dots for dots in row), role),) for row in cells]


def laid_under(upper: Sequence[Row], lower: Sequence[Row]) -> list[Row]:
    """The rows of `upper`, with those of `lower` where they are blank; one text a row in both."""
    return [_merged(*above[0], *below[0]) for above, below in zip(upper, lower, strict=True)]


def _merged(text: str, role: str, other: str, other_role: str) -> Row:
    chosen = (
        (theirs, other_role) if own == " " and theirs != " " else (own, role)
        for own, theirs in zip(text, other, strict=True)
    )
    runs = groupby(chosen, key=lambda cell: cell[1])
    return tuple(("".join(cell for cell, _ in run), of) for of, run in runs)


def _blank_as_space(cells: object) -> str:
    return "".join(map(chr, cells)).replace("\u2800", " ")  # type: ignore[call-overload]


def _newest(values: Values, count: int) -> list[float | None]:
    tail = list(values)[-count:]
    return [None] * (count - len(tail)) + tail


def _dots(value: float | None, top: float, height: int) -> int:
    if not value or value < 0:
        return 0
    return max(1, min(4 * height, round(4 * height * value / top)))


def _within(dots: int, below: int) -> int:
    return max(0, min(4, dots - below))
