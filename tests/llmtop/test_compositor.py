"""The short way to the terminal shows what Textual's own way shows, colours included."""

import gc
import re
from collections.abc import Callable
from typing import Any

import pytest
from textual._styles_cache import StylesCache
from textual.geometry import Size
from textual.widget import Widget

from llmtop.app import LlmtopApp
from llmtop.compositor import DirectCompositor, DirectUpdate
from llmtop.widgets.cells import cells_in
from llmtop.widgets.painted import Painted
from profiler.events import AnyEvent

_PIECE = re.compile(r"\x1b\[(\d+);(\d+)H|\x1b\[([\d;]*)m|([^\x1b]+)")


class Screen:
    """A terminal that knows how to move, to change colours and to put characters down."""

    def __init__(self, width: int, height: int) -> None:
        self.cells = [[("", "")] * width for _ in range(height)]

    def feed(self, data: str) -> None:
        x = y = 0
        style = ""
        for row, column, codes, text in _PIECE.findall(data):
            if row:
                y, x = int(row) - 1, int(column) - 1
            elif text:
                for character in cells_in(((text.replace("\n", ""), ""),)).chars:
                    self.cells[y][x] = (character, style)
                    x += 1
            else:
                style = codes if codes != "0" else ""


def full_picture(app: Any, width: int, height: int) -> Screen:
    screen = Screen(width, height)
    for y, strip in enumerate(app.screen._compositor.render_strips()):
        screen.feed(f"\x1b[{y + 1};1H{strip.render(app.console)}")
    return screen


def pending(app: Any) -> set[Widget]:
    return {w for w in app.screen.query(Painted) if w._repaint_regions}


@pytest.mark.parametrize("page", ["1", "2", "3", "5", "6"])
@pytest.mark.parametrize(("theme", "frames"), [("llmtop-dark", 1), ("ansi-dark", 2)])
async def test_both_ways_show_the_same(
    busy_source: Any, events: Callable[..., list[AnyEvent]], page: str, theme: str, frames: int
) -> None:
    """Also where the terminal gets to see only every other frame."""
    later = events(7.0)[len(events(6.0)) :]
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = theme
        await pilot.press(page)
        app.frame()
        await pilot.pause()
        compositor = app.screen._compositor
        assert isinstance(compositor, DirectCompositor)
        shown = full_picture(app, 120, 40)
        for at in range(0, len(later), 200):
            for part in range(at, at + 200, 200 // frames):
                busy_source.feed(later[part : part + 200 // frames])
                app.frame()
            compositor.update_widgets(pending(app))
            update = compositor.render_update()
            if update is not None:
                shown.feed(update.render_segments(app.console))
                assert isinstance(update, DirectUpdate) and update.rest is None
        assert shown.cells == full_picture(app, 120, 40).cells


async def test_what_a_toast_covers_is_left_to_textual(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.notify("saved a picture")
        await pilot.pause()
        await pilot.pause()
        widgets = set(app.screen.query(Painted))
        compositor = app.screen._compositor
        direct = compositor._direct(widgets)
        toast = app.screen.query("Toast").first().region
        assert direct
        assert not any(widget.region.overlaps(toast) for widget in direct)


async def test_behind_another_screen_nothing_goes_the_short_way(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        dashboard = app.screen
        await pilot.press("question_mark")
        await pilot.pause()
        assert app.screen is not dashboard
        assert dashboard._compositor._direct(set(dashboard.query(Painted))) == set()


async def test_what_is_not_drawn_for_its_new_size_is_left_to_textual(
    busy_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A widget learns of its size after it has it, and may be asked for its lines in between."""
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        widget = next(w for w in app.screen.query(Painted) if w.is_plain)
        width, height = widget.size
        monkeypatch.setattr(type(widget), "size", property(lambda _: Size(width, height + 6)))
        assert app.screen._compositor._direct({widget}) == set()
        assert widget.render_line(height + 3).cell_length == width
        monkeypatch.undo()
        assert widget.is_plain


async def test_a_sheet_that_was_closed_is_gone_with_all_its_lines(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)

    def num_kept() -> int:
        gc.collect()
        return sum(isinstance(kept, StylesCache) for kept in gc.get_objects())

    async with app.run_test(size=(80, 24)) as pilot:
        counts = []
        gc.freeze()  # what was there before is neither counted nor looked through
        for _ in range(3):
            await pilot.press("question_mark")
            await pilot.pause()
            await pilot.press("escape")
            await pilot.pause()
            counts.append(num_kept())
    assert counts[0] == counts[1] == counts[2]
