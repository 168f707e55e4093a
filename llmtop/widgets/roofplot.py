"""Steps under the roof that the device's measured ceilings make, both axes logarithmic.

Source: Williams, Waterman, Patterson: Roofline, an insightful visual performance model (2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from llmtop.format import metric
from llmtop.widgets.rows import Row, merged
from profiler.roofline import Point

_UNIT: Final = " FLOP a byte"
MARGIN: Final = 9  # cells of the numbers beside it
SLOPE: Final = "\u2571"  # a line rising to the right
_ROOM: Final = 1.0  # octaves beyond what is shown


class Roof(NamedTuple):
    """Bytes/s and FLOP/s that the device was measured to reach."""

    read: float
    matmul: float

    @property
    def ridge(self) -> float:
        """The FLOPs a byte from which on arithmetic is what holds a step."""
        return self.matmul / self.read

    def rate_at(self, intensity: float) -> float:
        return min(self.read * intensity, self.matmul)


class Dot(NamedTuple):
    point: Point
    glyph: str
    role: str


class Axes(NamedTuple):
    """The corners, as powers of two."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, dots: Iterable[Dot], roof: Roof) -> Axes:
        """The ridge and every dot are inside."""
        across = [math.log2(dot.point.intensity) for dot in dots] + [math.log2(roof.ridge)]
        up = [math.log2(dot.point.flops_per_s) for dot in dots] + [math.log2(roof.matmul)]
        left, right = min(across) - _ROOM, max(across) + _ROOM
        low = min(*up, math.log2(roof.rate_at(2**left)))
        return cls(left, right, low - _ROOM, max(up) + _ROOM / 2)

    def column(self, intensity: float, width: int) -> int:
        share = (math.log2(intensity) - self.left) / (self.right - self.left)
        return max(0, min(width - 1, int(share * width)))

    def line(self, rate: float, height: int) -> int:
        """From the top."""
        share = (self.top - math.log2(rate)) / (self.top - self.bottom)
        return max(0, min(height - 1, int(share * height)))


def roofplot(dots: list[Dot], roof: Roof, width: int, height: int) -> list[Row]:
    """`height` rows of `width` cells, the last one the lower axis; a later dot hides others."""
    axes, inner, lines = Axes.around(dots, roof), width - MARGIN, height - 1
    if inner < 8 or lines < 3:
        return []
    cells = [[(" ", "text")] * inner for _ in range(lines)]
    for column in range(inner):
        octave = axes.left + (column + 0.5) / inner * (axes.right - axes.left)
        glyph = SLOPE if 2**octave < roof.ridge else "─"
        cells[axes.line(roof.rate_at(2**octave), lines)][column] = (glyph, "faint")
    for dot in dots:
        line = axes.line(dot.point.flops_per_s, lines)
        cells[line][axes.column(dot.point.intensity, inner)] = (dot.glyph, dot.role)
    names = _names(axes, roof, lines)
    body = [
        ((f"{names.get(line, ''):>{MARGIN - 1}} ", "dim"), *merged(row))
        for line, row in enumerate(cells)
    ]
    return [*body, _lower_axis(axes, roof, inner)]


def _names(axes: Axes, roof: Roof, lines: int) -> dict[int, str]:
    """What stands beside which line: the roof's height and the lowest rate."""
    return {
        lines - 1: metric(2**axes.bottom, "").strip(),
        axes.line(roof.matmul, lines): metric(roof.matmul, "").strip(),
    }


def _lower_axis(axes: Axes, roof: Roof, inner: int) -> Row:
    """The ridge's number below it; the unit where there is room."""
    ridge = f"{roof.ridge:.0f}"
    at = max(0, min(inner - len(ridge), axes.column(roof.ridge, inner)))
    left = f"{2**axes.left:.2g}"
    after = _UNIT if at + len(ridge) + len(_UNIT) <= inner else ""
    heads = (left + ("" if after else _UNIT), left, "")
    head = next(text for text in heads if len(text) < at or not text)
    return ((" " * MARGIN, "text"), (head.ljust(at), "dim"), (ridge, "value"), (after, "dim"))
