"""The front of a tuning: bits an element against KL, as text and as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH, HEIGHT = 64, 16
MARKS: Final = {"predicted": "·", "measured": "●", "uniform": "○"}
COLOURS: Final = {"predicted": "#888", "measured": "#0a7", "uniform": "#c50"}
# KL is drawn by its logarithm; below this it is as good as none.
LEAST_KL: Final = 1e-6
PIXELS: Final = (720, 440)
MARGIN: Final = 64


class Dot(NamedTuple):
    """`kind` is a key of MARKS."""

    kind: str
    name: str
    bits: float
    kl: float


class Frame(NamedTuple):
    """The ranges of both axes, KL as log10."""

    bits: tuple[float, float]
    decades: tuple[int, int]

    def place(self, dot: Dot) -> tuple[float, float]:
        """From the lower left, both 0..1."""
        low, high = self.bits
        first, last = self.decades
        x = (dot.bits - low) / max(1e-9, high - low)
        return x, (_log(dot.kl) - first) / max(1, last - first)


def frame_of(dots: Sequence[Dot]) -> Frame:
    logs = [_log(dot.kl) for dot in dots]
    bits = [dot.bits for dot in dots]
    return Frame((min(bits), max(bits)), (math.floor(min(logs)), math.ceil(max(logs))))


def as_text(dots: Sequence[Dot]) -> str:
    """WIDTH x HEIGHT cells with axes; what was measured is drawn over what was predicted."""
    frame = frame_of(dots)
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]
    for kind in MARKS:
        for dot in dots:
            if dot.kind == kind:
                x, y = frame.place(dot)
                cells[HEIGHT - 1 - round(y * (HEIGHT - 1))][round(x * (WIDTH - 1))] = MARKS[kind]
    first, last = frame.decades
    labels = {0: f"1e{last}", HEIGHT - 1: f"1e{first}", HEIGHT // 2: "KL"}
    rows = [f"{labels.get(i, ''):>6} │{''.join(row)}" for i, row in enumerate(cells)]
    low, high = frame.bits
    rows += [f"{'':>6} └{'─' * WIDTH}", f"{'':>8}{low:<{WIDTH - 6}.2f}{high:>6.2f}"]
    legend = "   ".join(f"{mark} {kind}" for kind, mark in MARKS.items())
    return "\n".join([*rows, f"{'':>8}bits an element   {legend}"])


def as_svg(dots: Sequence[Dot], title: str) -> str:
    """A picture that stands alone; names appear where the pointer rests."""
    frame, (width, height) = frame_of(dots), PIXELS
    first, last = frame.decades
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="24" font-size="14">{escape(title, quote=False)}</text>',
    ]
    for decade in range(first, last + 1):
        y = _pixel(frame, Dot("", "", frame.bits[0], 10.0**decade))[1]
        parts.append(
            f'<line x1="{MARGIN}" x2="{width - MARGIN}" y1="{y}" y2="{y}" stroke="#ddd"/>'
            f'<text x="{MARGIN - 8}" y="{y + 4}" text-anchor="end">1e{decade}</text>'
        )
    for bits in range(math.ceil(frame.bits[0]), math.floor(frame.bits[1]) + 1):
        x = _pixel(frame, Dot("", "", bits, 10.0**first))[0]
        parts.append(f'<text x="{x}" y="{height - 40}" text-anchor="middle">{bits}</text>')
    for dot in dots:
        x, y = _pixel(frame, dot)
        told = f"{dot.name}: {dot.bits:.2f} bits, KL {dot.kl:.5f}"
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="5" fill="{COLOURS[dot.kind]}">'
            f"<title>{escape(told, quote=False)}</title></circle>"
        )
    for place, (kind, colour) in enumerate(COLOURS.items()):
        x = MARGIN + 220 + 130 * place
        parts.append(
            f'<circle cx="{x}" cy="{height - 16}" r="5" fill="{colour}"/>'
            f'<text x="{x + 10}" y="{height - 12}">{kind}</text>'
        )
    parts.append(f'<text x="{MARGIN}" y="{height - 12}">bits an element; KL in nats</text></svg>')
    return "\n".join(parts) + "\n"


def _pixel(frame: Frame, dot: Dot) -> tuple[float, float]:
    x, y = frame.place(dot)
    width, height = PIXELS
    return (
        round(MARGIN + x * (width - 2 * MARGIN), 1),
        round(height - MARGIN - y * (height - 2 * MARGIN), 1),
    )


def _log(kl: float) -> float:
    return math.log10(max(kl, LEAST_KL))
