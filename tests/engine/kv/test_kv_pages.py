"""The pool's states, and that its events tell exactly what it did."""

from __future__ import annotations

import pytest

from engine.invariants import InvariantError
from engine.kv.pages import PagePool
from engine.kv.runs import RunLog
from profiler.events import PageRun, PageSpan


def pool_of(num_pages: int) -> PagePool:
    return PagePool(num_pages, lambda page: None)


def test_pages_are_given_in_order_and_come_back_in_order():
    pool = pool_of(6)
    first = [pool.allocate(1) for _ in range(3)]
    assert first == [0, 1, 2]
    for page in reversed(first):
        pool.release(page, 1)
    assert [pool.allocate(2) for _ in range(4)] == [0, 1, 2, 3]


def test_sealed_pages_stay_when_released_and_go_oldest_first():
    evicted: list[int] = []
    pool = PagePool(3, evicted.append)
    for page in [pool.allocate(1) for _ in range(3)]:
        pool.seal(page)
    for page in (1, 0, 2):
        pool.release(page, 1)
    assert (pool.num_free, pool.num_cached, pool.num_used) == (0, 3, 0)
    pool.share(1, 2)
    assert [pool.allocate(2), pool.allocate(2)] == [0, 2]
    assert evicted == [0, 2]
    with pytest.raises(IndexError):
        pool.allocate(2)


def test_a_shared_page_is_released_with_its_last_reference():
    pool = pool_of(2)
    page = pool.allocate(1)
    pool.seal(page)
    pool.share(page, 2)
    pool.release(page, 1)
    assert pool.num_used == 1
    pool.release(page, 2)
    assert pool.num_cached == 1


def test_spans_merge_equal_neighbours():
    pool = pool_of(8)
    for request in (1, 1, 1, 2, 2):
        pool.allocate(request)
    pool.seal(0)
    pool.share(0, 2)
    pool.release(3, 2)
    assert pool.spans() == (
        PageSpan(0, 1, 1, 2, True),
        PageSpan(1, 2, 1, 1, False),
        PageSpan(4, 1, 2, 1, False),
    )
    assert pool_of(0).spans() == ()


def test_runs_merge_neighbours_that_changed_alike():
    log = RunLog()
    for page in (3, 4, 5):
        log.add("alloc", page, 1)
    log.add("alloc", 6, 2)
    for page in (5, 4, 3):
        log.add("release", page, 1)
    log.add("release", 1, 1)
    assert log.take() == (
        PageRun("alloc", 3, 3, 1),
        PageRun("alloc", 6, 1, 2),
        PageRun("release", 3, 3, 1),
        PageRun("release", 1, 1, 1),
    )
    assert log.take() == ()


@pytest.mark.parametrize(
    ("references", "findable"), [({0: 1}, {0}), ({0: 2}, set()), ({}, set()), ({0: 1, 1: 1}, set())]
)
def test_books_that_do_not_balance_are_found(references, findable):
    pool = pool_of(2)
    pool.allocate(1)
    pool.check({0: 1}, set())
    with pytest.raises(InvariantError):
        pool.check(references, findable)


def test_a_page_in_two_states_is_found():
    pool = pool_of(2)
    pool.allocate(1)
    pool._free.append(0)
    with pytest.raises(InvariantError, match="2 states"):
        pool.check({0: 1}, set())
