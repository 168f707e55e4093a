"""How one latency is spread in two recordings: the share of values below each, as two curves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from llmtop.compare.choice import Choice
from llmtop.format import milliseconds, nice_ceiling
from llmtop.viewmodel import View
from llmtop.widgets.chart import line
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span, merged, plain, spread
from profiler.compare.distribution import Distribution

_BLANK: Final = 0x2800
# One in fifty lies beyond the axis: the curves would else stand at its left edge.
_AXIS_SHARE: Final = 98
_ROLES: Final = {(True, False): "chart2", (False, True): "prefill", (True, True): "value"}


class CompareCurves(Panel):
    about = "Which share of the requests (y) was at most so slow (x), for A and for B."
    own_keys = ("latency", "chart: next latency: curves and requests")

    def __init__(self, choice: Choice, *, id: str) -> None:
        super().__init__(id=id)
        self._choice = choice

    def title(self, view: View) -> Row:
        return (
            (f"Share of {self._choice.latency} up to x ", "title"),
            ("A", "chart2"),
            (" and ", "dim"),
            ("B", "prefill"),
        )

    def note(self, view: View) -> str:
        return "c: next"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        found = self._choice.distribution
        if found is None or height < 2:
            return [(("no values in both", "dim"),)]
        top = axis_top(found)
        a, b = (
            line(shares_below(values, found.shares, top, 2 * width), width, height - 1, 1.0)
            for values in (found.a, found.b)
        )
        axis = spread((("0 ms", "dim"),), ((f"{milliseconds(top)} ms", "dim"),), width)
        return [*map(overlaid, a, b), axis]


def axis_top(found: Distribution) -> float:
    """A round number below which nearly all values of both lie."""
    return nice_ceiling(max(found.a[_AXIS_SHARE], found.b[_AXIS_SHARE]))


def shares_below(
    values: Sequence[float], shares: Sequence[float], top: float, count: int
) -> list[float | None]:
    """At `count` places from 0 to `top` the share of values up to there; None below the least."""
    places = (top * (x + 1) / count for x in range(count))
    ranks = (bisect_right(values, place) for place in places)
    return [shares[rank - 1] or 0.01 if rank else None for rank in ranks]


def overlaid(a: Row, b: Row) -> Row:
    """Two rows of braille in one; a cell has the colour of who draws in it."""
    spans: list[Span] = []
    for first, second in zip(plain(a), plain(b), strict=True):
        dots = [0 if c == " " else ord(c) - _BLANK for c in (first, second)]
        both = dots[0] | dots[1]
        role = _ROLES.get((bool(dots[0]), bool(dots[1])), "text")
        spans.append((chr(_BLANK + both) if both else " ", role))
    return merged(spans)
