"""Plots as inline SVG: lines over time and distributions. No script and nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from statistics import fmean
from typing import Final, NamedTuple

WIDTH: Final = 720
HEIGHT: Final = 180
MAX_POINTS: Final = 360
_LEFT: Final = 58
_RIGHT: Final = 10
_TOP: Final = 10
_BOTTOM: Final = 22
_NICE: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

Point = tuple[float, float | None]
Text = Callable[[float], str]


class Series(NamedTuple):
    """`points` from left to right; a line breaks where its value is None."""

    name: str
    points: Sequence[Point]


def thinned(
    values: Sequence[float | None], pool: Callable[[list[float]], float] = fmean
) -> tuple[list[Point], int]:
    """At most 360 points, x counting values, and how many values one stands for. `pool` makes one
    of several; those that are None are not among them."""
    size = max(1, -(-len(values) // MAX_POINTS))
    points: list[Point] = []
    for first in range(0, len(values), size):
        known = [value for value in values[first : first + size] if value is not None]
        points.append((float(first), pool(known) if known else None))
    return points, size


def cumulative(values: Sequence[float], weights: Sequence[int]) -> list[Point]:
    """The share, in percent, of the weights at or below each of the rising `values`; as many points
    as can be told apart."""
    total, below, shown = sum(weights), 0, -1
    points: list[Point] = []
    for value, weight in zip(values, weights, strict=True):
        below += weight
        place = below * MAX_POINTS // total
        if place != shown or below == total:
            shown = place
            points.append((value, 100.0 * below / total))
    return points


def plot(series: Sequence[Series], x_text: Text, log_x: bool = False) -> str:
    """One drawing with its axes, "" when there is no value to draw. The y axis begins at 0."""
    known = [y for one in series for _, y in one.points if y is not None]
    if not known:
        return ""
    to_x, ticks = _x_axis([x for one in series for x, _ in one.points], log_x)
    top = nice_ceiling(max(known))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_label(series))}">',
        *_y_grid(top),
        *(_x_tick(to_x(tick), x_text(tick)) for tick in ticks),
        *(_lines(number, one, to_x, top) for number, one in enumerate(series)),
        "</svg>",
    ]
    return "".join(parts)


def nice_ceiling(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below `value`.

    1 for nothing.
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in _NICE if factor * power >= value * (1 - 1e-12))


def _label(series: Sequence[Series]) -> str:
    return ", ".join(one.name for one in series)


def _x_axis(values: list[float], log: bool) -> tuple[Callable[[float], float], list[float]]:
    """From a value to its pixel, and where to write one."""
    span = WIDTH - _LEFT - _RIGHT
    low, high = min(values), max(values)
    if log and low > 0:
        base, width = math.log(low), math.log(high / low) or 1.0
        ticks = [low * (high / low) ** (i / 4) for i in range(5)] if high > low else [low]
        return lambda x: _LEFT + span * (math.log(x) - base) / width, ticks
    width = (high - low) or 1.0
    ticks = [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]
    return lambda x: _LEFT + span * (x - low) / width, ticks


def _y_pixel(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _y_grid(top: float) -> Iterable[str]:
    for part in (0.0, 0.5, 1.0):
        y = _y_pixel(part * top, top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="y" x="{_LEFT - 6}" y="{y + 4:.1f}">{part * top:g}</text>'


def _x_tick(x: float, text: str) -> str:
    anchor = "start" if x < _LEFT + 20 else "end" if x > WIDTH - _RIGHT - 20 else "middle"
    return f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(text)}</text>'


def _lines(number: int, series: Series, to_x: Callable[[float], float], top: float) -> str:
    """The stretches of one series that are known, each as a line; a point alone as a dot."""
    stretches: list[list[str]] = [[]]
    for x, y in series.points:
        if y is None:
            stretches.append([])
        else:
            stretches[-1].append(f"{to_x(x):.1f},{_y_pixel(y, top):.1f}")
    return "".join(_stretch(number, points) for points in stretches if points)


def _stretch(number: int, points: list[str]) -> str:
    if len(points) == 1:
        x, y = points[0].split(",")
        return f'<circle class="s{number}" cx="{x}" cy="{y}" r="1.5"/>'
    return f'<polyline class="s{number}" points="{" ".join(points)}"/>'
