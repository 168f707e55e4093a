"""Every screen in five states at four sizes: as it was when it was last looked at, and sound.

The pictures beside this file are to be read. After a change that is meant, renew them with
`pytest tests/llmtop/screens --renew-screens` and look at the difference.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from rich.cells import cell_len

from llmtop.viewing import Viewing
from llmtop.widgets.palette import THEME_NAMES

HERE: Final = Path(__file__).parent
STATES: Final = ("live", "empty", "crowd", "replay")
SIZES: Final = ((60, 16), (80, 24), (120, 40), (200, 60))
TAB: Final = 8
TITLE_LINES: Final = 2
TO_ANSI: Final = ("t",) * THEME_NAMES.index("ansi-dark")
COLOURLESS: Final = "DEFAULT"
SIXTEEN: Final = (COLOURLESS, "STANDARD")
LETTERS: Final = set("日本語")  # of a request's name
NO_NUMBER: Final = re.compile(r"\b(nan|None|inf)\b|Traceback", re.IGNORECASE)
NAMES: Final = re.compile("(smollm2|void gemm|waited for it)[^…│]*…")  # as long as others like

Walk = Callable[..., Any]
Size = tuple[int, int]


def picture_of(state: str, size: Size) -> Path:
    return HERE / f"{state}-{size[0]}x{size[1]}.txt"


def page(shots: Iterable[Any], first: int = 0, last: int | None = None) -> str:
    """All screens one after another; columns of blanks are tabs, which halves the files."""
    lines = []
    for shot in shots:
        lines += [f"== {shot.name}", *(tabbed(line) for line in shot.text[first:last])]
    return "\n".join(lines) + "\n"


def tabbed(line: str) -> str:
    """`line` with tabs for the blanks that end at a tab stop, as `unexpand -a` has it."""
    line = line.rstrip()
    cells = [line[at : at + TAB] for at in range(0, len(line), TAB)]
    whole, last = cells[:-1], cells[-1:]
    return "".join([*(re.sub(" {2,}$", "\t", cell) for cell in whole), *last])


def check_picture(path: Path, now: str, renew: bool) -> None:
    if renew:
        path.write_text(now)
        return
    kept = path.read_text() if path.exists() else ""
    if kept != now:
        before, after = (text.expandtabs(TAB).splitlines() for text in (kept, now))
        diff = difflib.unified_diff(before, after, f"{path.name}", "drawn now", lineterm="", n=1)
        pytest.fail(
            "\n".join([*diff, "", "if it is meant: pytest tests/llmtop/screens --renew-screens"]),
            pytrace=False,
        )


def check_sound(shots: Iterable[Any], size: Size) -> None:
    width, height = size
    for shot in shots:
        assert len(shot.text) == height, shot.name
        assert {cell_len(line) for line in shot.text} == {width}, shot.name
        assert shot.text[0].startswith(" llmtop "), shot.name
        assert not NO_NUMBER.search("\n".join(shot.text)), shot.name
        assert [line for line in shot.text if "…" in NAMES.sub("", line)] == [], shot.name


def texts(shots: Iterable[Any]) -> list[list[str]]:
    return [shot.text for shot in shots]


def colours(shots: Iterable[Any]) -> set[tuple[str, str]]:
    """(screen, kind of colour) that is in use."""
    styles = ((shot.name, part.style) for shot in shots for line in shot.lines for part in line)
    return {
        (name, colour.type.name)
        for name, style in styles
        if style is not None
        for colour in (style.color, style.bgcolor)
        if colour is not None
    }


@pytest.fixture(scope="module")
def known() -> dict[tuple[str, Size], list[Any]]:
    """Screens in the first theme by state and size, kept from test to test."""
    return {}


@pytest.fixture
def walk_dark(walk: Walk, known: dict[tuple[str, Size], list[Any]]) -> Walk:
    async def through(state: str, size: Size) -> list[Any]:
        if (state, size) not in known:
            known[state, size] = await walk(state, size)
        return known[state, size]

    return through


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("state", STATES)
async def test_screens_stay_as_they_were(
    walk_dark: Walk, state: str, size: Size, request: pytest.FixtureRequest
) -> None:
    shots = await walk_dark(state, size)
    check_sound(shots, size)
    check_picture(picture_of(state, size), page(shots), request.config.getoption("renew_screens"))


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_a_stale_picture_is_the_live_one_under_another_title(
    walk: Walk, size: Size, request: pytest.FixtureRequest
) -> None:
    shots = await walk("stale", size)
    check_sound(shots, size)
    titles = page(shots, last=TITLE_LINES)
    check_picture(picture_of("stale", size), titles, request.config.getoption("renew_screens"))
    live = picture_of("live", size).read_text().splitlines()
    untitled = [line for at, line in enumerate(live) if not 1 <= at % (size[1] + 1) <= TITLE_LINES]
    drawn = page(shots, first=TITLE_LINES).splitlines()
    assert drawn == untitled[: len(drawn)]


QUICK: Final = (("live", (80, 24)), ("crowd", (80, 24)))
VARIED: Final = [
    pytest.param(
        state, size, id=f"{state}-{size}",
        marks=() if (state, size) in QUICK else pytest.mark.slow,
    )
    for state in (*STATES, "stale")
    for size in SIZES
]  # fmt: skip


@pytest.mark.parametrize(("state", "size"), VARIED)
async def test_the_sixteen_colours_and_none_at_all_show_the_same(
    walk: Walk, walk_dark: Walk, state: str, size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    dark = await walk_dark(state, size)
    ansi = await walk(state, size, TO_ANSI)
    assert texts(ansi) == texts(dark)
    assert [(name, kind) for name, kind in colours(ansi) if kind not in SIXTEEN] == []
    monkeypatch.setenv("NO_COLOR", "1")
    plain = await walk(state, size)
    assert texts(plain) == texts(dark)
    assert [(name, kind) for name, kind in colours(plain) if kind != COLOURLESS] == []


def cells(line: str) -> list[str]:
    """A character a cell; a wide one stands in both of its own."""
    return [character for character in line for _ in range(cell_len(character))]


@pytest.mark.parametrize(("state", "size"), VARIED)
async def test_in_ascii_each_cell_stays_where_it_was(
    walk: Walk, walk_dark: Walk, state: str, size: Size
) -> None:
    """Our own glyphs all have a likeness; what others wrote in other letters is question marks."""
    dark = await walk_dark(state, size)
    drawn = await walk(state, size, viewing=Viewing(ascii=True))
    check_sound(drawn, size)
    for shot, before in zip(drawn, dark, strict=True):
        for line, as_it_was in zip(shot.text, before.text, strict=True):
            assert line.isascii(), shot.name
            pairs = list(zip(line, cells(as_it_was), strict=True))
            assert [pair for pair in pairs if pair[1].isascii() and pair[0] != pair[1]] == []
            assert {old for new, old in pairs if new == "?"} <= {"?"} | LETTERS
