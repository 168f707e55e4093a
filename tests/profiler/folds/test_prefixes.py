"""The forest of reused pages, by hand and over an engine's own pages."""

from __future__ import annotations

from profiler.events import PageDelta, PageRun
from profiler.folds.pages import Pages
from profiler.folds.prefixes import Prefix, prefixes


def pages_after(*runs: tuple[str, int, int, int]) -> Pages:
    pages = Pages()
    pages.resize(16)
    for t_ns, run in enumerate(runs, 1):
        pages.delta(PageDelta(t_ns, (PageRun(*run),)))
    return pages


FORKED = (
    ("alloc", 0, 4, 1),
    ("seal", 0, 3, 1),
    ("share", 0, 2, 2),
    ("alloc", 4, 2, 2),
    ("seal", 4, 1, 2),
    ("share", 0, 2, 3),
    ("share", 4, 1, 3),
)


def test_a_run_goes_on_until_it_is_taken_less_often() -> None:
    assert prefixes(pages_after(*FORKED)) == [
        Prefix(0, 0, (0, 1), refs=3, hits=2),
        Prefix(1, 2, (4,), refs=2, hits=1),
    ]


def test_a_fork_has_the_branch_with_more_hits_first() -> None:
    more = (("share", 0, 3, 4), ("share", 0, 3, 5))
    forest = prefixes(pages_after(*FORKED, *more))
    assert [(prefix.depth, prefix.pages, prefix.hits) for prefix in forest] == [
        (0, (0, 1), 4),
        (1, (2,), 2),
        (1, (4,), 1),
    ]


def test_what_nobody_holds_any_more_stays_until_it_is_evicted() -> None:
    released = (("release", 0, 4, 1), ("release", 0, 2, 2), ("release", 0, 2, 3))
    pages = pages_after(*FORKED, *released)
    assert prefixes(pages)[0] == Prefix(0, 0, (0, 1), refs=0, hits=2)
    pages.delta(PageDelta(99, (PageRun("evict", 0, 1, 0),)))
    # The page after it can no longer be found by its prefix, but is there.
    assert [prefix.pages for prefix in prefixes(pages)] == [(1,), (4,)]
    assert {prefix.start for prefix in prefixes(pages)} == {0, 1}


def test_a_page_that_holds_something_else_by_now_is_nobodys_prefix() -> None:
    pages = pages_after(*FORKED, ("release", 0, 1, 1), ("evict", 0, 1, 0), ("alloc", 0, 1, 9))
    pages.delta(PageDelta(99, (PageRun("seal", 0, 1, 9),)))
    assert all(0 not in prefix.pages for prefix in prefixes(pages))
    assert prefixes(pages)[0].start == 0


def test_behind_a_twin_stands_the_page_that_can_be_found() -> None:
    """Two requests computed page 0 alike; the second's copy, page 1, stays its own."""
    pages = pages_after(
        ("alloc", 0, 1, 1),
        ("alloc", 1, 2, 2),
        ("seal", 0, 1, 1),
        ("seal", 2, 1, 2),
        ("share", 0, 1, 3),
        ("share", 2, 1, 3),
    )
    assert [prefix.pages for prefix in prefixes(pages)] == [(0, 2)]


def test_parents_that_make_a_circle_or_are_not_there_end_the_walk() -> None:
    pages = pages_after(*FORKED)
    pages.parents[0], pages.parents[1] = 1, 0
    assert prefixes(pages) == []
    pages.parents[0] = 1 << 20
    assert prefixes(pages)[0].pages == (0, 1)
