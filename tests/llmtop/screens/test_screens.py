"""Every screen in five states at four sizes: as it was when it was last looked at, and sound.

The pictures beside this file are to be read. After a change that is meant, renew them with
`pytest tests/llmtop/screens --renew-screens` and look at the difference.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from rich.cells import cell_len

from llmtop.app import LlmtopApp
from llmtop.screens import compare_page
from llmtop.sources.replay import ReplaySource
from llmtop.viewing import Viewing
from llmtop.widgets.palette import THEME_NAMES
from profiler.events import AnyEvent, ObserverCost, ObserverTurn, Phase
from profiler.session.listing import SessionInfo, session_info
from profiler.state import SessionState

HERE: Final = Path(__file__).parent
STATES: Final = ("live", "empty", "crowd", "replay")
SIZES: Final = ((60, 16), (80, 24), (120, 40), (200, 60))
TAB: Final = 8
TITLE_LINES: Final = 2
TO_ANSI: Final = ("t",) * THEME_NAMES.index("ansi-dark")
COLOURLESS: Final = "DEFAULT"
SIXTEEN: Final = (COLOURLESS, "STANDARD")
LETTERS: Final = set("日本語")  # of a request's name
NO_NUMBER: Final = re.compile(r"\b([Nn]a[Nn]|None|inf)\b|Traceback")
NAMES: Final = re.compile("(smollm2|void gemm|waited for it|Search for)[^…│]*…")  # of others

S: Final = 1_000_000_000
MS: Final = 1_000_000
Walk = Callable[..., Any]
Events = Callable[..., list[AnyEvent]]
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


def renewing(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("renew_screens"))


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
    check_picture(picture_of(state, size), page(shots), renewing(request))


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_a_stale_picture_is_the_live_one_under_another_title(
    walk: Walk, size: Size, request: pytest.FixtureRequest
) -> None:
    shots = await walk("stale", size)
    check_sound(shots, size)
    titles = page(shots, last=TITLE_LINES)
    check_picture(picture_of("stale", size), titles, renewing(request))
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


async def shot_when(shoot: Walk, app: LlmtopApp, pilot: Any, name: str, wanted: str) -> Any:
    """The screen once it says `wanted`: some things are looked up in a thread."""
    ends = time.monotonic() + 20
    while wanted not in "\n".join((shot := shoot(app, name)).text):
        assert time.monotonic() < ends, "\n".join(shot.text)
        await pilot.pause(0.02)
        app.frame()
    return shot


def starting(events: Events) -> SessionState:
    """Half of the weights are loaded."""
    state, begin_ns = SessionState(), 100 * S
    told: list[AnyEvent] = [
        Phase(begin_ns, "fetch", 98 << 20, 98 << 20, "bytes"),
        Phase(begin_ns + 7 * S, "convert", 272, 272, "tensors"),
        Phase(begin_ns + 12 * S, "load", 0, 272, "tensors"),
        Phase(begin_ns + 14 * S, "load", 136, 272, "tensors"),
    ]
    for seq, event in enumerate(told, 1):
        state.apply(event, seq)
    return state


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_start_and_what_opens_over_the_tabs(
    still: None,
    shoot: Walk,
    events: Events,
    source_of: Callable[[SessionState], Any],
    busy_state: SessionState,
    size: Size,
    request: pytest.FixtureRequest,
) -> None:
    app = LlmtopApp(source := source_of(starting(events)), "http://127.0.0.1:9")
    async with app.run_test(size=size) as pilot:
        shots = [await shot_when(shoot, app, pilot, "startup", "loading the weights")]
        source.state = busy_state
        app.frame()
        await pilot.press("p", *"why?")
        shots.append(await shot_when(shoot, app, pilot, "prompt", "why?"))
        await pilot.press("escape", "ctrl+p")
        shots.append(await shot_when(shoot, app, pilot, "palette", "Compare (7)"))
        await pilot.press("escape")
        turns = tuple(
            ObserverTurn(i % 4 in (1, 2), 30, (780 + 9 * (i % 4 in (1, 2)) + i % 5) * MS)
            for i in range(24)
        )
        busy_state.observing.told(ObserverCost(busy_state.t_ns, 0, "done", turns))
        await pilot.press("O")
        shots.append(await shot_when(shoot, app, pilot, "observer", "ms a step"))
    check_sound(shots, size)
    check_picture(picture_of("aside", size), page(shots), renewing(request))


@pytest.fixture
def recordings(
    tmp_path_factory: pytest.TempPathFactory,
    events: Events,
    record: Callable[[Path, list[AnyEvent]], Path],
) -> Path:
    """A folder of two of the same arrivals, the second of which ended sooner; made once."""
    folder = tmp_path_factory.getbasetemp() / "compared" / "data" / "sessions"
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    told = events(5.0)
    record(folder / "20260101-100000-one.db", told)
    sooner = takewhile(lambda event: event.t_ns < told[0].t_ns + 4 * S, told)
    record(folder / "20260102-100000-two.db", list(sooner))
    return folder


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_the_compare_tab(
    still: None,
    shoot: Walk,
    recordings: Path,
    size: Size,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sized(path: Path) -> SessionInfo:
        return msgspec.structs.replace(session_info(path), num_bytes=1_400_000)

    monkeypatch.setenv("LLMTOP_HOME", str(recordings.parents[1]))
    monkeypatch.setattr(compare_page, "session_info", sized)
    monkeypatch.setattr(ReplaySource, "bytes_recorded", 1_400_000)
    source = ReplaySource(recordings / "20260102-100000-two.db", at="50%")
    source.toggle()
    app = LlmtopApp(source)
    async with app.run_test(size=size) as pilot:
        await pilot.press("7")
        shots = [await shot_when(shoot, app, pilot, "compare list", "2, Enter compares")]
        await pilot.press("j", "enter")
        shots.append(await shot_when(shoot, app, pilot, "compare", "ttft p50"))
    app.source.stop()
    check_sound(shots, size)
    check_picture(picture_of("compare", size), page(shots), renewing(request))
