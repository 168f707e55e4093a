"""Colours that can be told from their ground, in every theme, and no role without one."""

from itertools import combinations
from math import dist

import pytest
from rich.color import Color
from rich.style import Style

from llmtop.widgets.ownercolours import NUM_COLOURS, OWN, PICKED, SHARED, own_role
from llmtop.widgets.palette import ANSI, DARK, LIGHT, SAFE, THEME_NAMES, style_of

GROUND = {"dark": (DARK, "#11161d"), "light": (LIGHT, "#f6f8fa"), "safe": (SAFE, "#11161d")}
MARKS = [
    *OWN,
    *PICKED,
    "free",
    "used",
    "shared",
    "cached",
    "decode",
    "prefill",
    "queued",
    "chart",
    "host",
]
TEXTS = [*SHARED, "text", "dim", "value", "key", "good", "warn", "bad", "title", "cursor", "select"]


# Linear RGB as seen without one kind of cone. Source: Machado, Oliveira and Fernandes, 2009.
BLIND = {
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
# Roles that stand side by side and must not be taken for each other.
TOGETHER = [
    ("good", "warn", "bad"),
    ("used", "shared", "cached", "free"),
    ("decode", "prefill", "preempt", "queued"),
    ("decode", "prefill", "graph", "host"),
    ("weights", "kv", "act", "graph"),
    ("chart", "chart2"),
]
APART = 15.0  # of CIE 1976; 2.3 is what can just be seen


def linear(color: Color) -> list[float]:
    assert color.triplet is not None
    parts = [value / 255 for value in color.triplet]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def lab(rgb: list[float]) -> list[float]:
    """CIE L*a*b* of linear sRGB. Source: IEC 61966-2-1 and CIE 1976, white D65."""
    r, g, b = (min(1.0, max(0.0, part)) for part in rgb)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def seen(style: str, matrix) -> list[float]:
    color = Style.parse(style).color
    assert color is not None
    rgb = linear(color)
    return lab([sum(m * part for m, part in zip(row, rgb, strict=True)) for row in matrix])


@pytest.mark.parametrize("missing", BLIND)
@pytest.mark.parametrize("roles", TOGETHER)
def test_the_safe_theme_is_told_apart_without_a_cone(missing: str, roles: tuple[str, ...]) -> None:
    views = {role: seen(SAFE[role], BLIND[missing]) for role in roles}
    apart = {pair: dist(*map(views.get, pair)) for pair in combinations(roles, 2)}
    assert {pair: round(far) for pair, far in apart.items() if far < APART} == {}


def luminance(color: Color) -> float:
    """Source: WCAG 2.2, relative luminance."""
    r, g, b = linear(color)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(style: Style, ground: str) -> float:
    """Source: WCAG 2.2, contrast ratio."""
    assert style.color is not None
    lights = [luminance(style.color), luminance(style.bgcolor or Color.parse(ground))]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("theme", GROUND)
def test_marks_reach_three_to_one_and_text_four_and_a_half(theme: str) -> None:
    palette, ground = GROUND[theme]
    ratios = {role: contrast(Style.parse(palette[role]), ground) for role in MARKS + TEXTS}
    assert {role: r for role, r in ratios.items() if r < 3.0} == {}
    assert {role: r for role in TEXTS if (r := ratios[role]) < 4.5} == {}


def test_every_theme_knows_every_role() -> None:
    assert set(DARK) == set(LIGHT) == set(SAFE) == set(ANSI)
    for theme in THEME_NAMES:
        for role in DARK:
            style_of(theme, role)


def test_neighbouring_requests_never_share_a_colour() -> None:
    colours = [own_role(request) for request in range(1, 3 * NUM_COLOURS)]
    for at in range(len(colours) - NUM_COLOURS + 1):
        assert len(set(colours[at : at + NUM_COLOURS])) == NUM_COLOURS
    assert len({DARK[role] for role in OWN}) == NUM_COLOURS
