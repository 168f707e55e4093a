"""The page map: what each operation does to a page, and that it cannot drift."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from profiler.events import (
    PageDelta,
    PageForm,
    PageKeyframe,
    PageRun,
    PageSpan,
    SessionStart,
)
from profiler.folds.pages import STATE_NAMES, Pages


def pages_after(*runs: tuple[str, int, int, int], num_pages: int = 8) -> Pages:
    pages = Pages()
    pages.resize(num_pages)
    pages.delta(PageDelta(1, tuple(PageRun(*run) for run in runs)))
    return pages


def test_a_page_goes_round() -> None:
    pages = pages_after(("alloc", 2, 2, 7))
    assert [pages.state(p) for p in (1, 2, 3)] == ["free", "open", "open"]
    assert (pages.owners[2], pages.refs[2], pages.pages_of(7)) == (7, 1, [2, 3])
    pages.delta(PageDelta(2, (PageRun("seal", 2, 1, 7), PageRun("share", 2, 1, 8))))
    assert (pages.state(2), pages.refs[2], pages.owners[2]) == ("shared", 2, 7)
    pages.delta(PageDelta(3, (PageRun("release", 2, 2, 7),)))
    assert (pages.state(2), pages.state(3)) == ("used", "free")
    assert (pages.pages_of(7), pages.pages_of(8)) == ([], [2])
    pages.delta(PageDelta(4, (PageRun("release", 2, 1, 8),)))
    assert (pages.state(2), pages.owners[2], pages.cached) == ("cached", 7, 1)
    pages.delta(PageDelta(5, (PageRun("evict", 2, 1, 0),)))
    assert (pages.state(2), pages.owners[2], pages.evictions, pages.free) == ("free", 0, 1, 8)
    assert pages.t_touch_ns[2] == 5


def test_changed_since_names_what_changed() -> None:
    pages = pages_after(("alloc", 0, 4, 1))
    seen = pages.version
    assert pages.changed_since(seen) == []
    pages.delta(PageDelta(2, (PageRun("seal", 1, 2, 1),)))
    assert pages.changed_since(seen) == [(1, 2)]
    assert pages.changed_since(-1) is None


def test_a_keyframe_mends_lost_deltas() -> None:
    pages = pages_after(("alloc", 0, 4, 1))
    seen = pages.version
    spans = (PageSpan(0, 2, 1, 1, True), PageSpan(5, 1, 9, 0, True))
    pages.keyframe(PageKeyframe(9, spans))
    assert [pages.state(p) for p in range(8)] == [
        "used", "used", "free", "free", "free", "cached", "free", "free",
    ]  # fmt: skip
    assert pages.pages_of(1) == [0, 1]
    assert pages.changed_since(seen) is None
    seen = pages.version
    pages.keyframe(PageKeyframe(10, spans))
    assert pages.changed_since(seen) == [], "what was right is not redrawn"


def test_a_page_is_wide_until_it_is_packed_and_has_no_form_when_free() -> None:
    pages = pages_after(("alloc", 0, 4, 1), ("keep", 0, 1, 1), ("widen", 1, 2, 1))
    assert [pages.forms.of(p) for p in range(5)] == ["sink", "hot", "hot", "", ""]
    assert (pages.forms.wide, pages.forms.packed, pages.held_pages) == (3, 0, 4)
    pages.delta(PageDelta(2, (PageRun("pack", 1, 1, 1), PageRun("seal", 0, 2, 1))))
    assert (pages.forms.sinks, pages.forms.hot, pages.forms.packed) == (1, 1, 1)
    pages.delta(PageDelta(3, (PageRun("release", 0, 4, 1),)))
    assert [pages.forms.of(p) for p in range(4)] == ["sink", "packed", "", ""]
    assert pages.forms.wide_pages() == [0]
    pages.delta(PageDelta(4, (PageRun("evict", 0, 1, 0),)))
    assert (pages.forms.wide, pages.forms.packed) == (0, 1)


def test_a_keyframe_mends_forms_too() -> None:
    pages = pages_after(("alloc", 0, 4, 1), ("widen", 0, 4, 1))
    spans = (PageSpan(0, 4, 1, 1, False),)
    forms = (PageForm(0, 1, "sink"), PageForm(1, 2, "packed"), PageForm(3, 9, "hot"))
    seen = pages.version
    pages.keyframe(PageKeyframe(9, spans, forms))
    assert [pages.forms.of(p) for p in range(4)] == ["sink", "packed", "packed", ""]
    assert pages.changed_since(seen) is None
    seen = pages.version
    pages.keyframe(PageKeyframe(10, spans, forms))
    assert pages.changed_since(seen) == []


def test_a_frame_from_before_forms_is_read_and_a_wrong_one_refused() -> None:
    pages, read = pages_after(("alloc", 0, 2, 1), ("pack", 0, 2, 1)), Pages()
    frame = pages.freeze()
    read.thaw(frame)
    assert read.forms.packed == 2 and read.freeze() == frame
    frame.forms = b""
    read.thaw(frame)
    assert (read.forms.packed, read.used) == (0, 2)
    frame.forms = b"\x04" * 8
    with pytest.raises(ValueError, match="form"):
        Pages().thaw(frame)


@pytest.mark.parametrize("run", [("alloc", -1, 2, 1), ("alloc", 0, 0, 1), ("seal", 1 << 40, 1, 1)])
def test_nonsense_changes_nothing(run: tuple[str, int, int, int]) -> None:
    pages = pages_after(run)
    assert (pages.free, pages.num_pages) == (8, 8)


def test_a_map_grows_with_pages_it_was_not_told_of() -> None:
    pages = pages_after(("alloc", 20, 2, 1))
    assert (pages.num_pages, pages.used, pages.free) == (22, 2, 20)
    with pytest.raises(ValueError, match="more than"):
        pages.resize(1 << 30)


@pytest.mark.parametrize("seed", range(4))
def test_counts_equal_the_engines_after_every_step(workload: Any, seed: int) -> None:
    """Every step says how many pages are used, cached and free; the map must agree, and a page
    keyframe must find nothing to mend."""
    pages = Pages()
    keyframes = 0
    for event in workload(seed, concurrency=12, num_pages=120, odd_share=0.2).events(1500):
        if isinstance(event, SessionStart):
            pages.resize(event.num_pages)
        elif isinstance(event, PageDelta):
            pages.delta(event)
        elif isinstance(event, PageKeyframe) and pages.version > 1:
            seen = pages.version
            pages.keyframe(event)
            assert pages.changed_since(seen) == []
            keyframes += 1
        elif hasattr(event, "pages_used"):
            counts = (pages.used, pages.cached, pages.free)
            assert counts == (event.pages_used, event.pages_cached, event.pages_free)
            recount = Counter(STATE_NAMES[state] for state in pages.states)
            assert recount["cached"] == pages.cached and recount["shared"] == pages.shared
    assert keyframes >= 2
    assert pages.evictions > 0


def test_a_map_survives_a_keyframe_of_the_state(workload: Any) -> None:
    pages = Pages()
    pages.resize(200)
    for event in workload(1, concurrency=8, num_pages=200).events(200):
        if isinstance(event, PageDelta):
            pages.delta(event)
    copy = Pages()
    copy.thaw(pages.freeze())
    assert copy.freeze() == pages.freeze()
    assert (copy.used, copy.shared, copy.cached) == (pages.used, pages.shared, pages.cached)


def test_a_page_is_as_old_as_its_allocation() -> None:
    pages = pages_after(("alloc", 2, 2, 7))
    pages.delta(PageDelta(5, (PageRun("seal", 2, 1, 7), PageRun("release", 2, 2, 7))))
    assert list(pages.t_alloc_ns[2:4]) == [1, 0], "a cached page keeps its age, a free one has none"
    pages.keyframe(PageKeyframe(9, (PageSpan(2, 1, 7, 1, True), PageSpan(4, 1, 8, 1, True))))
    assert list(pages.t_alloc_ns[2:5]) == [1, 0, 0], "an age that nobody told is not made up"


def test_frames_from_before_ages_and_journals_open() -> None:
    frame = pages_after(("alloc", 0, 2, 1)).freeze()
    frame.t_alloc_ns = frame.journal = b""
    pages = Pages()
    pages.thaw(frame)
    assert list(pages.t_alloc_ns) == [0] * 8 and pages.journal.story(0) == []
