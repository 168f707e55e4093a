"""The KV tab in the real program: cursor, zoom, what Enter opens."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from llmtop.app import LlmtopApp
from llmtop.widgets.kvpacking import layers_told
from llmtop.widgets.pagemap import PageMap
from llmtop.widgets.prefixfacts import hit_facts
from profiler.events import KvPacking, LayerFormat, PageDelta, PageRun
from profiler.kv_held import kv_held
from profiler.state import SessionState

TextOf = Callable[[Any], str]


async def test_the_cursor_walks_over_the_map_and_the_facts_follow(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3", "right", "right", "down")
        app.frame()
        await pilot.pause()
        per_line = app.screen.query_one(PageMap).grid.pages_per_line
        assert per_line % 8 == 0
        assert app.model.cursor_page == per_line + 2
        assert f"Page {per_line + 2} " in text_of(app)
        await pilot.press("end")
        assert app.model.cursor_page == busy_source.state.pages.num_pages - 1
        await pilot.press("home")
        assert app.model.cursor_page == 0


async def test_pages_that_do_not_fit_are_scrolled_to_and_the_title_says_which_show(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        app.frame()
        await pilot.pause()
        assert "1 cell = 1 page" in text_of(app) and "0 to " in text_of(app)
        await pilot.press("end")
        await pilot.pause()
        assert "2047 shown" in text_of(app)


async def test_zooming_out_says_how_many_pages_a_cell_is(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3", "minus", "minus", "minus")
        await pilot.pause()
        assert "1 cell = 8 pages" in text_of(app) and "all shown" in text_of(app)
        await pilot.press("plus", "plus", "plus", "plus")
        assert app.model.pages_per_cell == 1


async def test_enter_opens_the_owner_of_the_page(busy_source: Any) -> None:
    state: SessionState = busy_source.state
    page = next(p for p in range(state.pages.num_pages) if state.pages.owners[p])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        app.model.cursor_page = page
        await pilot.press("enter")
        assert app.model.selected == state.pages.owners[page]
        assert app.model.page == "requests" and app.model.detail
        await pilot.press("escape")
        assert app.model.page == "kv"


async def test_a_click_puts_the_cursor_on_its_page(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        app.frame()
        await pilot.pause()
        grid = app.screen.query_one(PageMap).grid
        await pilot.click(PageMap, offset=(2 + grid.label + 5, 1 + 3))
        assert app.model.cursor_page == 3 * grid.pages_per_line + 5


async def test_a_session_without_pages_says_so(source_of: Any, text_of: TextOf) -> None:
    app = LlmtopApp(source_of(SessionState()))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3", "right", "down", "minus", "enter")
        app.frame()
        await pilot.pause()
        assert "no pages yet" in text_of(app)


async def test_o_goes_round_the_colourings_and_the_legend_follows(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        for colouring, word in (
            ("state", "# full"), ("age", "256s"), ("references", "2-9"), ("owner", "owner"),
        ):  # fmt: skip
            await pilot.press("o")
            await pilot.pause()
            assert f"{colouring}" in text_of(app) and word in text_of(app)


async def test_o_shows_forms_where_pages_are_packed(busy_source: Any, text_of: TextOf) -> None:
    packed(busy_source.poll(0))
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3", "o", "o", "o", "o")
        await pilot.pause()
        assert "h hot: written  s sink  p packed" in text_of(app)
        await pilot.press("o")
        assert app.model.colouring == "owner"


async def test_a_selection_lasts_over_all_screens_until_escape(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "j", "slash", *"out>0", "enter")
        chosen = app.model.selected
        assert chosen is not None
        for digit in "3562":
            await pilot.press(digit)
            assert app.model.selected == chosen
        await pilot.press("escape")
        assert app.model.selected is None and app.model.filter_text, "one thing at a time"
        await pilot.press("escape")
        assert not app.model.filter_text


async def test_reused_prefixes_stand_as_a_tree_where_there_is_room(
    busy_source: Any, text_of: TextOf
) -> None:
    state = busy_source.poll(0)
    pages, block_size = state.pages, state.session.block_size
    first = next(p for p in range(pages.num_pages - 4) if pages.state(p) == "free")
    runs = [("alloc", first, 3, 900), ("seal", first, 3, 900), ("share", first, 2, 901)]
    runs += [("share", first, 3, 902)]
    pages.delta(PageDelta(state.t_ns, tuple(PageRun(*run) for run in runs)))
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        await pilot.pause()
        lines = [line for line in text_of(app).splitlines() if f" {first}" in line[78:]]
        assert "Reused prefixes" in text_of(app)
        assert any(line[78:].split()[1:4] == [str(2 * block_size), "3", "2"] for line in lines)
        assert f"└ {block_size}" in text_of(app)
        assert "tail waste" in text_of(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "Reused prefixes" not in text_of(app)


LAYERS = (LayerFormat("int8", "int4", 8, 4),) * 2 + (LayerFormat("int4", "int4", 4, 4),) * 28


def packed(state: SessionState, layers: tuple[LayerFormat, ...] = LAYERS[2:]) -> SessionState:
    """The session as if it packed: a sink, one page that is written and two packed ones."""
    packing = KvPacking("int4", "bfloat16", layers, 4096, 8192, 40, 1)
    state.session = msgspec.structs.replace(state.session, packing=packing, page_bytes=2304)
    first = next(p for p in range(state.pages.num_pages - 4) if state.pages.state(p) == "free")
    runs = [("alloc", first, 4, 900), ("keep", first, 1, 900), ("widen", first + 1, 3, 900)]
    runs += [("pack", first + 1, 2, 900)]
    state.pages.delta(PageDelta(state.t_ns, tuple(PageRun(*run) for run in runs)))
    return state


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_packing_stands_beside_the_map(
    busy_source: Any, text_of: TextOf, size: tuple[int, int]
) -> None:
    state = packed(busy_source.poll(0))
    app = LlmtopApp(busy_source)
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        app.frame()
        await pilot.pause()
        text = text_of(app)
        held = state.pages.held_pages
        bits = 8 * (held * 2304 + 2 * 8192) / (held * 4096)
        assert "Packed pages int4" in text and "28 layers int4/int4" in text
        assert "2 packed, 1 hot, 1 sink" in text
        assert f"{bits:.2f} effective, 4.50 packed" in text
        assert "of bfloat16" in text and "sealed/s" in text
        assert ("2 of 40 = 16.0 KiB" in text) == (size == (120, 40))
        first = state.pages.forms.wide_pages()[0]
        for page, word in enumerate(("wide sink", "packed", "packed", "being written"), first):
            app.model.cursor_page = page
            app.frame()
            await pilot.pause()
            assert f", {word}" in text_of(app)


async def test_an_unpacked_session_has_no_such_panel(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("3")
        await pilot.pause()
        assert "Packed pages" not in text_of(app)


def test_bytes_of_sinks_count_their_wide_page_too(busy_source: Any) -> None:
    state = packed(busy_source.poll(0))
    wide = state.pages.forms.wide_pages()[0]
    runs = [("seal", wide, 1, 900), ("share", wide, 1, 901), ("share", wide, 1, 902)]
    state.pages.delta(PageDelta(state.t_ns, tuple(PageRun(*run) for run in runs)))
    state.requests.live.clear()
    rows = ["".join(text for text, _ in row) for row in hit_facts(state, 40)]
    # Nobody that is known holds a page, so none was saved; the wide place of two is.
    assert any(row.startswith("saved by sharing 0 pages = 16.0 KiB") for row in rows)


@pytest.mark.parametrize(
    ("layers", "width", "told"),
    [
        (LAYERS[2:], 29, "28 layers int4/int4"),
        (LAYERS, 40, "0-1 int8/int4, 2-29 int4/int4"),
        (LAYERS, 24, "0-1 int8/int4, +1 more"),
        (LAYERS[1:3] * 9, 29, "0 int8/int4, +17 more"),
        (LAYERS, 8, "2 runs of layers"),
    ],
)
def test_layers_that_differ_are_told_in_runs(
    layers: tuple[LayerFormat, ...], width: int, told: str
) -> None:
    assert layers_told(layers, width) == told


def test_a_cache_of_wide_pages_says_that_it_takes_more(busy_source: Any) -> None:
    state = packed(busy_source.poll(0))
    everything = tuple(
        PageRun("widen", p, 1, 1) for p in range(state.pages.num_pages) if state.pages.refs[p]
    )
    state.pages.delta(PageDelta(state.t_ns, everything))
    held = kv_held(state.session, state.pages)
    assert held.saved_bytes < 0 and held.bits > 16
