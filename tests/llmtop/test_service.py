"""The service's numbers: on a narrow screen words give way to them."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.brief import Brief
from llmtop.widgets.holders import Holders
from llmtop.widgets.rows import plain, width_of
from llmtop.widgets.service import batch


def view_of(state: Any) -> View:
    return View(state, ViewModel(), "LIVE", Connection("connected"))


@pytest.mark.parametrize("width", [59, 66, 79, 116])
def test_every_count_that_is_not_zero_is_whole(preempted_state: Any, width: int) -> None:
    row = batch(view_of(preempted_state), width)
    assert width_of(row) <= width
    assert f"running {preempted_state.requests.num_running}" in plain(row)
    assert plain(row).endswith(f"preempted {preempted_state.requests.num_preemptions}")


def test_counts_of_none_stand_where_there_is_room(busy_state: Any) -> None:
    view = view_of(busy_state)
    assert "failed 0" in plain(batch(view, 66)) and "preempted 0" in plain(batch(view, 66))
    assert "failed" not in plain(batch(view, 40))


@pytest.mark.parametrize("width", [60, 80])
def test_five_lines_end_with_a_unit(busy_state: Any, width: int) -> None:
    rows = Brief().rows(view_of(busy_state), width, 5)
    assert plain(rows[2]).endswith(" ms")
    assert all(width_of(row) <= width for row in rows[:4])


@pytest.mark.parametrize("width", [28, 38, 60])
def test_pages_of_a_request_are_never_cut(busy_state: Any, width: int) -> None:
    head, *rows = Holders(id="h").body(view_of(busy_state), width, 20)
    assert plain(head).endswith("pages shared")
    assert len(rows) == 8
    assert all(width_of(row) <= width for row in (head, *rows))
