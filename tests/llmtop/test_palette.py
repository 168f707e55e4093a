"""Colours that can be told from their ground, in every theme, and no role without one."""

import pytest
from rich.color import Color
from rich.style import Style

from llmtop.widgets.ownercolours import NUM_COLOURS, OWN, PICKED, SHARED, own_role
from llmtop.widgets.palette import ANSI, DARK, LIGHT, THEME_NAMES, style_of

GROUND = {"dark": (DARK, "#11161d"), "light": (LIGHT, "#f6f8fa")}
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


def luminance(color: Color) -> float:
    """Source: WCAG 2.2, relative luminance."""
    assert color.triplet is not None
    parts = [value / 255 for value in color.triplet]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
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
    assert set(DARK) == set(LIGHT) == set(ANSI)
    for theme in THEME_NAMES:
        for role in DARK:
            style_of(theme, role)


def test_neighbouring_requests_never_share_a_colour() -> None:
    colours = [own_role(request) for request in range(1, 3 * NUM_COLOURS)]
    for at in range(len(colours) - NUM_COLOURS + 1):
        assert len(set(colours[at : at + NUM_COLOURS])) == NUM_COLOURS
    assert len({DARK[role] for role in OWN}) == NUM_COLOURS
