"""The help is the panel that has the focus, then the registry: every key, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.columns import FIELDS
from llmtop.keys import COMPARE_KEYS, KEYS, Keymap
from llmtop.screens import compare, dashboard
from llmtop.viewing import Viewing
from llmtop.widgets.helptext import help_rows, panel_rows
from llmtop.widgets.panel import Panel
from llmtop.widgets.requesttable import RequestTable
from llmtop.widgets.rows import plain, width_of
from llmtop.widgets.scrolled import Scrolled

TextOf = Callable[[Any], str]


@pytest.mark.parametrize("mode", ["live", "replay"])
@pytest.mark.parametrize("width", [56, 76, 116, 180])
def test_every_key_of_the_mode_is_explained_at_every_width(mode: str, width: int) -> None:
    rows = help_rows(Keymap(), mode, width)
    text = "\n".join(plain(row) for row in rows)
    assert "…" not in text
    for key in KEYS:
        assert (key.help in text) == (key.mode in ("any", mode)), key
    assert all(field.help in text for field in FIELDS.values())
    assert all(width_of(row) <= width for row in rows)


@pytest.mark.parametrize("width", [30, 54])
def test_what_one_line_does_not_hold_goes_on_below_it(width: int) -> None:
    lines = [plain(row) for row in help_rows(Keymap(), "live", width)]
    assert all(len(line) <= width and "…" not in line for line in lines)
    text = " ".join(" ".join(lines).split())
    assert all(field.help in text for field in FIELDS.values())


async def test_help_opens_scrolls_and_closes(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "the whole service at a glance" in text_of(app)
        assert "j k scroll" in text_of(app)
        await pilot.press("end")
        await pilot.pause()
        assert "not known; 0 is zero" in text_of(app)
        await pilot.press("q")
        await pilot.pause()
        assert "Service" in text_of(app) or "run" in text_of(app)
        assert len(app.screen_stack) == 2


def panels() -> list[type[Panel]]:
    """Of the dashboard and of the comparison, which both were imported."""
    assert compare and dashboard
    return [panel for panel in Panel.__subclasses__() if panel.__module__.startswith("llmtop.")]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.__name__)
def test_every_panel_says_what_it_shows_and_names_keys_that_exist(panel: type[Panel]) -> None:
    assert panel.about.endswith(".") and panel.about.isprintable()
    names = {key.name for key in (*KEYS, *COMPARE_KEYS)}
    own = [key.partition(": ")[0] for key in panel.own_keys]
    assert set(own) <= names
    assert len(own) == len(set(own))


PAGES = [key for key in KEYS if key.action.startswith("page")]
# Each page at one of the two sizes by default.
PAGES_SIZES = [
    pytest.param(
        page, size, id=f"{page.keys}-{size}", marks=() if (at + wide) % 2 else pytest.mark.slow
    )
    for at, page in enumerate(PAGES)
    for wide, size in enumerate([(80, 24), (120, 40)])
]


@pytest.mark.parametrize(("page", "size"), PAGES_SIZES)
async def test_the_help_begins_with_each_panel_that_tab_reaches(
    busy_source: Any, text_of: TextOf, size: tuple[int, int], page: Any
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=size) as pilot:
        await pilot.press(page.keys)
        await pilot.pause()
        for _ in app._dashboard._page.panels():  # type: ignore[union-attr]
            await pilot.press("tab")
            panel = app._dashboard.focused
            assert isinstance(panel, Panel)
            await pilot.press("question_mark")
            await pilot.pause()
            shown = app.screen.query_one(Scrolled).rows
            assert plain(shown[1]) in panel.about
            for own in panel.own_keys:
                name, _, here = own.partition(": ")
                key = next(key for key in KEYS if key.name == name)
                assert any(plain(row).split() == [*key.shown.split(), *(here or key.help).split()]
                           for row in shown), own  # fmt: skip
            assert plain(shown[1]).split()[0] in text_of(app)
            await pilot.press("escape")
            await pilot.pause()


async def test_without_a_focus_the_help_says_how_to_choose_a_panel(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source, keymap=Keymap({"next-panel": ("ctrl+n", "^n")}))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("question_mark")
        await pilot.pause()
        assert "^n chooses a panel" in text_of(app)


def test_own_keys_follow_the_keymap_and_what_is_refused_is_left_out() -> None:
    table = RequestTable(id="x")
    keymap = Keymap({"sort": ("ctrl+s", "^s")}, readonly=True)
    text = "\n".join(plain(row) for row in panel_rows(table, keymap, "live", 76))
    assert "^s" in text and "sort by the next column" in text
    assert "the rows of this view into a file" not in text


async def test_the_command_palette_is_drawn_in_ascii_too(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source, viewing=Viewing(ascii=True))
    async with app.run_test(size=(80, 24)) as pilot:
        app.frame()
        await pilot.press("ctrl+p", "z", "z")
        await pilot.pause()
        text = text_of(app)
        assert text.isascii() and "?" not in text.replace("? help", "")
