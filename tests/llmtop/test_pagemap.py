"""The page map is the truth about every page, or says how many pages a cell stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.holders import holders, num_shared
from llmtop.widgets.ownercolours import NUM_COLOURS, OWN, PICKED, SHARED
from llmtop.widgets.pagecells import grid_for, legend, map_lines, pool_column
from llmtop.widgets.pagefacts import page_facts, page_story
from llmtop.widgets.pagelooks import LOOKS, look_legend
from llmtop.widgets.pagemap import PageMap
from llmtop.widgets.prefixfacts import hit_facts, page_split
from llmtop.widgets.rows import plain, width_of
from profiler.events import PageDelta, PageRun, RequestQueued, RequestScheduled, SessionStart
from profiler.folds.pagejournal import MAX_ENTRIES
from profiler.folds.pages import Pages
from profiler.state import SessionState

MS = 1_000_000


def pages_after(*runs: tuple[str, int, int, int], num_pages: int = 64) -> Pages:
    pages = Pages()
    pages.resize(num_pages)
    pages.delta(PageDelta(5, tuple(PageRun(*run) for run in runs)))
    return pages


def cells_of(pages: Pages, picked: frozenset[int] = frozenset()) -> list[tuple[str, str]]:
    """Glyph and role of every page, read back from the drawn map, without a cursor."""
    grid = grid_for(pages.num_pages, 200, 100, 1, 0, 0)
    rows = map_lines(pages, grid, -1, picked)
    return [span for row in rows for span in row[1:]]


@given(st.integers(1, 2000), st.integers(12, 150), st.integers(1, 60), st.sampled_from([1, 2, 16]))
def test_every_page_lies_in_exactly_one_cell(
    num_pages: int, width: int, height: int, per_cell: int
) -> None:
    first_line, seen = 0, 0
    while seen < num_pages:
        grid = grid_for(num_pages, width, height, per_cell, seen, first_line)
        assert seen in grid.shown
        found = [
            page
            for y in range(grid.height)
            for x in range(width)
            if (page := grid.page_at(x, y)) is not None
        ]
        assert found == list(range(grid.shown.start, grid.shown.stop, per_cell))
        seen, first_line = grid.shown.stop, grid.first_line


@given(st.integers(1, 5000), st.integers(20, 150), st.integers(1, 60), st.data())
def test_the_cursor_is_always_on_the_screen(
    num_pages: int, width: int, height: int, data: st.DataObject
) -> None:
    cursor = data.draw(st.integers(0, num_pages - 1))
    first_line = data.draw(st.integers(0, 5000))
    grid = grid_for(num_pages, width, height, 1, cursor, first_line)
    assert cursor in grid.shown
    assert len(grid.shown) == num_pages or len(grid.shown) > (height - 1) * grid.pages_per_line


def test_a_glyph_says_what_a_page_is_and_its_colour_whose() -> None:
    pages = pages_after(
        ("alloc", 0, 4, 7),
        ("seal", 0, 3, 7),
        ("share", 0, 1, 8),
        ("share", 0, 1, 9),
        ("alloc", 4, 1, 19),
        ("seal", 4, 1, 19),
        ("release", 4, 1, 19),
    )
    cells = cells_of(pages)
    assert cells[0] == ("3", SHARED[7])
    assert cells[1] == cells[2] == ("█", OWN[7])
    assert cells[3] == ("▄", OWN[7])
    assert cells[4] == ("░", OWN[19 % NUM_COLOURS])
    assert set(cells[5:]) == {("·", "free")}


def test_more_than_nine_references_are_a_plus() -> None:
    shares = [("share", 0, 1, other) for other in range(2, 12)]
    pages = pages_after(("alloc", 0, 1, 1), ("seal", 0, 1, 1), *shares)
    assert cells_of(pages)[0][0] == "+"
    assert "+ 10 up" in plain(legend(1, 100))


def test_the_selected_request_stands_out_on_the_map() -> None:
    pages = pages_after(("alloc", 0, 2, 1), ("alloc", 2, 2, 2), ("seal", 0, 1, 1))
    cells = cells_of(pages, frozenset(pages.pages_of(1)))
    assert [role for _, role in cells[:4]] == [PICKED[1], PICKED[1], OWN[2], OWN[2]]


def test_a_zoomed_cell_tells_the_share_of_its_pages_in_use() -> None:
    pages = pages_after(
        ("alloc", 0, 8, 1), ("alloc", 8, 4, 2), ("alloc", 12, 1, 3), ("seal", 12, 1, 3),
        ("release", 12, 1, 3), ("alloc", 16, 1, 4), ("alloc", 17, 1, 5), ("alloc", 24, 1, 6),
        ("seal", 24, 1, 6), ("release", 24, 1, 6),
    )  # fmt: skip
    grid = grid_for(pages.num_pages, 100, 10, 8, 0, 0)
    cells = [span for row in map_lines(pages, grid, -1, ()) for span in row[1:]]
    assert cells[:5] == [
        ("█", OWN[1]),
        ("▄", OWN[2]),
        ("▂", "text"),
        ("░", "cached"),
        ("·", "free"),
    ]
    assert "8 pages" in plain(legend(8, 100))


@pytest.fixture
def shared_state() -> SessionState:
    state = SessionState()
    state.apply(SessionStart(0, 0, "0", "m", "cpu", 2, 32, 16, 1 << 20, 0, 512, 8, 64))
    for number, prompt in ((1, 40), (2, 36)):
        state.apply(RequestQueued(number * MS, number, f"chatcmpl-{number:04d}", prompt, 9))
    state.apply(RequestScheduled(2 * MS, 1, 0))
    state.apply(RequestScheduled(3 * MS, 2, 32))
    runs = [("alloc", 0, 3, 1), ("seal", 0, 2, 1), ("share", 0, 2, 2), ("alloc", 9, 1, 2)]
    state.apply(PageDelta(4 * MS, tuple(PageRun(*run) for run in runs)))
    return state


def test_the_facts_of_a_page_name_owner_holders_and_tokens(shared_state: SessionState) -> None:
    shared_state.requests.live[1].computed_tokens = 40
    text = "\n".join(plain(row) for row in page_facts(shared_state, 1, 60))
    assert "full, shared" in text
    assert "0001 queued" not in text and "0001 prefill" in text
    assert "2: 0001, 0002" in text
    assert "16 of 16" in text
    last = "\n".join(plain(row) for row in page_facts(shared_state, 2, 60))
    assert "filling, private" in last and "8 of 16 (50%)" in last
    free = "\n".join(plain(row) for row in page_facts(shared_state, 20, 60))
    assert "free" in free and "nobody" in free and "0 of 16" in free and "--" in free


def test_a_page_tells_its_story_newest_first(shared_state: SessionState) -> None:
    runs = (("release", 0, 3, 1), ("release", 0, 2, 2), ("evict", 0, 1, 0))
    shared_state.apply(PageDelta(6 * MS, tuple(PageRun(*run) for run in runs)))
    told = [plain(row).split("ago ")[-1] for row in page_story(shared_state, 0, 9)]
    assert told == [
        "evicted", "released by 0002", "released by 0001", "shared by 0002", "full, findable",
        "allocated by 0001",
    ]  # fmt: skip
    assert [plain(row) for row in page_story(shared_state, 30, 9)] == ["never used"]
    copy = SessionState.restore(shared_state.keyframe())
    assert page_story(copy, 0, 9) == page_story(shared_state, 0, 9)


def test_a_story_that_began_too_long_ago_says_so(shared_state: SessionState) -> None:
    for t_ns in range(7, 7 + MAX_ENTRIES):
        shared_state.apply(PageDelta(t_ns * MS, (PageRun("alloc", 20, 1, 3),)))
    assert plain(page_story(shared_state, 0, 3)[0]) == "older changes are not kept"
    assert len(page_story(shared_state, 20, 4)) == 4


def test_tokens_that_cannot_be_known_are_not_made_up(shared_state: SessionState) -> None:
    shared_state.requests.live[1].preemptions = 1
    assert "up to 16" in plain(page_facts(shared_state, 2, 60)[3])


def test_pages_by_request_add_up(shared_state: SessionState) -> None:
    pages = shared_state.pages
    held = holders(list(shared_state.requests.live.values()), pages)
    assert [(count, view.request) for count, view in held] == [(3, 1), (3, 2)]
    assert [num_shared(pages, r) for r in (1, 2)] == [2, 2]


def test_hits_and_savings_are_those_of_the_fold(shared_state: SessionState) -> None:
    text = "\n".join(plain(row) for row in hit_facts(shared_state, 40))
    assert "42%" in text and "32 of 76 prompt tokens" in text
    assert "saved by sharing 2 pages = 2.0 MiB" in text
    split = "\n".join(plain(row) for row in page_split(shared_state, 40))
    assert "private 2" in split and "shared 2" in split and "free 28" in split


def test_nothing_looked_up_is_not_a_hit_rate_of_zero(empty_state: SessionState) -> None:
    assert "--" in plain(hit_facts(empty_state, 40)[0])


@pytest.mark.parametrize("size", [(80, 11), (60, 5), (118, 36)])
def test_map_rows_fit_whatever_the_size(
    busy_state: SessionState, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = size
    panel = PageMap(id="map")
    monkeypatch.setattr(PageMap, "size", property(lambda self: type("S", (tuple,), {})(size)))
    view = View(busy_state, ViewModel(), "LIVE", Connection("connected"))
    rows = panel.rows(view, width, height)
    assert len(rows) == height
    assert all(width_of(row) == width for row in rows)


def test_the_pool_column_covers_every_page_and_marks_what_is_shown() -> None:
    pages = pages_after(("alloc", 600, 40, 1), num_pages=1000)
    grid = grid_for(1000, 40, 10, 1, 0, 0)
    column = pool_column(pages, grid)
    assert len(column) == 10
    assert [glyph != "·" for glyph, _ in column] == [line == 6 for line in range(10)]
    assert [role == "select" for _, role in column] == [line < 4 for line in range(10)]
    assert pool_column(pages, grid_for(1000, 200, 10, 1, 0, 0)) == []


def look_glyphs(pages: Pages, look: str, per_cell: int, t_ns: int = 5) -> str:
    grid = grid_for(pages.num_pages, 200, 100, per_cell, 0, 0)
    rows = map_lines(pages, grid, -1, (), LOOKS[look], t_ns)
    return "".join(plain(row[1:]) for row in rows)


def test_every_look_reads_in_ascii_and_its_legend_names_what_it_draws() -> None:
    shares = [("share", 0, 1, other) for other in range(2, 12)]
    pages = pages_after(
        ("alloc", 0, 4, 1), ("seal", 0, 3, 1), *shares, ("share", 1, 1, 2), ("release", 2, 1, 1),
        num_pages=6,
    )  # fmt: skip
    assert look_glyphs(pages, "state", 1) == "&&co.."
    assert look_glyphs(pages, "references", 1) == "+201.."
    assert look_glyphs(pages, "age", 1) == "0000.."
    assert look_glyphs(pages, "age", 1, 5 + 3_000_000_000) == "2222.."
    assert look_glyphs(pages, "age", 1, 1 << 60) == "9999.."
    assert look_glyphs(pages, "references", 3) == "+1"
    assert look_glyphs(pages, "state", 2) == "&o."
    assert look_glyphs(pages, "form", 1) == "----.."
    runs = [("keep", 0, 1, 1), ("widen", 1, 2, 1), ("pack", 2, 1, 1)]
    pages.delta(PageDelta(5, tuple(PageRun(*run) for run in runs)))
    assert look_glyphs(pages, "form", 1) == "shp-.."
    assert look_glyphs(pages, "form", 4) == "h."
    for look in LOOKS:
        text = plain(look_legend(look, 1, 100))
        assert text.isascii() and len(text) <= 76
        assert ". free" in text
        for width in range(12, 100):
            assert text.startswith(plain(look_legend(look, 1, width))[:width])
            assert len(plain(look_legend(look, 1, width))) <= width


def test_a_cell_of_many_pages_lights_up_with_the_selected_request() -> None:
    pages = pages_after(("alloc", 0, 2, 1), ("alloc", 9, 1, 2))
    grid = grid_for(64, 100, 10, 4, 0, 0)
    for look in (None, *LOOKS.values()):
        cells = [span for row in map_lines(pages, grid, -1, (9,), look, 5) for span in row[1:]]
        assert [i for i, (_, role) in enumerate(cells) if role == "select"] == [2]
