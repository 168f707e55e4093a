"""Twelve colours that tell neighbouring requests apart, alone and as the ground of a digit."""

from __future__ import annotations

from typing import Final

_DARK: Final = (
    "#58b8a8",
    "#6d9eeb",
    "#e0a458",
    "#a78bda",
    "#8fc46a",
    "#e08bb0",
    "#55b4d4",
    "#d3c15a",
    "#d9876c",
    "#7f8fe0",
    "#4fa36f",
    "#c39ac9",
)
_LIGHT: Final = (
    "#147566",
    "#2b5fb8",
    "#a65f00",
    "#6d4bb0",
    "#4a7a1c",
    "#a93f72",
    "#1a6f93",
    "#7d6c00",
    "#a04a2b",
    "#4250b5",
    "#1e7a4b",
    "#7d4388",
)
# Okabe and Ito's colours, the darker of them lifted to be read on a dark ground, and a lighter or
# darker kin of each: who sees no red, no green or no blue still tells light from dark.
_SAFE: Final = (
    "#56b4e9",
    "#e69f00",
    "#f0e442",
    "#cc79a7",
    "#3f8fd0",
    "#e56a0c",
    "#00b383",
    "#b9dcf2",
    "#f7c866",
    "#8f9bab",
    "#e8b9d2",
    "#a39a2d",
)
_ANSI: Final = (
    "cyan",
    "blue",
    "yellow",
    "magenta",
    "green",
    "white",
    "bright_cyan",
    "bright_blue",
    "bright_yellow",
    "bright_magenta",
    "bright_green",
    "bright_white",
)
NUM_COLOURS: Final = len(_DARK)

OWN: Final = tuple(f"own{i}" for i in range(NUM_COLOURS))
SHARED: Final = tuple(f"own{i}shared" for i in range(NUM_COLOURS))
PICKED: Final = tuple(f"own{i}picked" for i in range(NUM_COLOURS))


def _roles(colours: tuple[str, ...], ink: str, picked: str) -> dict[str, str]:
    roles: dict[str, str] = {}
    for i, colour in enumerate(colours):
        roles[OWN[i]] = colour
        roles[SHARED[i]] = f"bold {ink} on {colour}"
        roles[PICKED[i]] = f"bold {colour} {picked}".rstrip()
    return roles


DARK_OWNERS: Final = _roles(_DARK, "#0f1319", "on #2b3a52")
LIGHT_OWNERS: Final = _roles(_LIGHT, "#ffffff", "on #d7e4f2")
SAFE_OWNERS: Final = _roles(_SAFE, "#0f1319", "on #2b3a52")
ANSI_OWNERS: Final = {
    **{OWN[i]: colour for i, colour in enumerate(_ANSI)},
    **{SHARED[i]: f"reverse bold {colour}" for i, colour in enumerate(_ANSI)},
    **{PICKED[i]: f"underline bold {colour}" for i, colour in enumerate(_ANSI)},
}


def own_role(owner: int) -> str:
    """The role of pages that `owner` allocated; owners twelve apart share a colour."""
    return OWN[owner % NUM_COLOURS]
