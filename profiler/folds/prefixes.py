"""Which prefixes requests have in common: the reused pages as a forest."""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from profiler.folds.pages import Pages

# Of the pages that were taken last; older ones are left out.
MAX_PAGES: Final = 2048


class Prefix(NamedTuple):
    """Pages that follow each other and were taken equally often, by as many requests as still are.

    `depth` is how many such runs lie before it, `start` how many pages; `pages` are its own.
    """

    depth: int
    start: int
    pages: tuple[int, ...]
    refs: int
    hits: int


def prefixes(pages: Pages) -> list[Prefix]:
    """Depth first: behind each run those that go on from it, the one with the most hits first."""
    recent = set(islice(reversed(pages.reused), MAX_PAGES))
    children: dict[int, list[int]] = {}
    for page in recent:
        before = _before(pages, page)
        if before in recent or before == -1:
            children.setdefault(before, []).append(page)
    for siblings in children.values():
        siblings.sort(key=lambda page: (pages.hits[page], -page))
    found, waiting = [], [(0, 0, page) for page in children.get(-1, ())]
    while waiting:
        depth, start, first = waiting.pop()
        run = _run(pages, children, first)
        found.append(Prefix(depth, start, run, pages.refs[first], pages.hits[first]))
        end = start + len(run)
        waiting += [(depth + 1, end, page) for page in children.get(run[-1], ())]
    return found


def _before(pages: Pages, page: int) -> int:
    """The page before it, -1 if there is none that can still be found."""
    before = pages.parents[page]
    if not 0 <= before < pages.num_pages:
        return -1
    # One that was allocated later holds something else by now.
    stands = pages.sealed_flags[before] and pages.t_alloc_ns[before] <= pages.t_alloc_ns[page]
    return before if stands else -1


def _run(pages: Pages, children: dict[int, list[int]], first: int) -> tuple[int, ...]:
    """The pages from `first` on up to a fork, or to one that is taken more or less often."""
    run, kind = [first], (pages.refs[first], pages.hits[first])
    while True:
        following = children.get(run[-1], [])
        if len(following) != 1 or (pages.refs[following[0]], pages.hits[following[0]]) != kind:
            return tuple(run)
        run.append(following[0])
