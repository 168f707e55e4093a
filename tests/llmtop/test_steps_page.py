"""The Steps tab: columns, the chosen step taken apart, and the ways between token and step."""

from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.rows import plain, width_of
from llmtop.widgets.stepcolumns import Column, ColumnCells, StepColumns, chosen_step, window
from llmtop.widgets.stepmembers import StepMembers, members
from llmtop.widgets.stepshares import StepShares
from profiler.events import Step
from profiler.explain.parts import Part
from profiler.state import SessionState

MS = 1_000_000
TextOf = Callable[[Any], str]


def view_of(state: SessionState, **chosen: Any) -> View:
    return View(state, ViewModel(**chosen), "LIVE", Connection("connected"))


def column(**ms: float) -> Column:
    return Column.of([Part(cause, round(value * MS)) for cause, value in ms.items()])


def drawn(columns: list[Column], height: int, top_ms: float) -> list[str]:
    return [plain(row) for row in ColumnCells(height, top_ms).rows(columns)]


def test_a_column_is_stacked_by_cause_and_as_high_as_its_time() -> None:
    columns = [
        column(decode=10),
        column(decode=10, prefill=20),
        column(decode=20, host=10, idle=10),
    ]
    assert drawn(columns, 4, 40.0) == ["  ·", " ▒▚", " ▒█", "███"]


def test_a_short_step_has_a_cell_and_one_beyond_the_axis_says_so() -> None:
    assert drawn([column(decode=0.1), column(host=900)], 3, 30.0) == [" ↑", " ▚", "█▚"]


@pytest.mark.parametrize("width", [10, 40, 116, 600])
def test_the_chosen_step_is_always_shown(busy_state: SessionState, width: int) -> None:
    ring = list(busy_state.steps.ring)
    for step in (ring[0], ring[len(ring) // 2], ring[-1]):
        shown = window(view_of(busy_state, step=step.step), width)
        numbers = [s.step for s in shown.steps]
        assert step.step in numbers and len(numbers) + shown.room <= width
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert window(view_of(busy_state), width).steps[-1] is ring[-1]
    assert window(view_of(SessionState()), width) == ([], 0)


@pytest.mark.parametrize("size", [(56, 3), (76, 10), (116, 20)])
def test_panels_stay_within_their_size(busy_state: SessionState, size: tuple[int, int]) -> None:
    width, height = size
    for state in (busy_state, SessionState()):
        view = view_of(state, selected=1)
        for panel in (StepColumns(id="c"), StepShares(id="s"), StepMembers(id="m")):
            rows = panel.body(view, width, height)
            assert 0 < len(rows) <= height
            if isinstance(panel, StepColumns):
                assert all(width_of(row) <= width for row in rows)


def test_members_begin_with_the_longest_prefill(busy_state: SessionState) -> None:
    step = next(s for s in busy_state.steps.ring if any(r.prefill_tokens for r in s.rows))
    rows = members(step)
    assert sorted(rows, key=lambda row: row.request) == sorted(step.rows, key=lambda r: r.request)
    assert rows[0].prefill_tokens == max(row.prefill_tokens for row in step.rows)


def test_steps_of_the_selected_request_are_marked(busy_state: SessionState) -> None:
    view = view_of(busy_state, selected=next(iter(busy_state.requests.live)))
    marks = plain(StepColumns(id="c").body(view, 100, 8)[-1])
    shown = window(view, 100)
    inside = [any(row.request == view.model.selected for row in s.rows) for s in shown.steps]
    assert marks.count("▪") == sum(inside[:-1])
    assert marks.rstrip().endswith("▲")


async def opened(app: LlmtopApp, pilot: Any, *keys: str) -> None:
    await pilot.pause()
    app.frame()
    await pilot.press(*keys)
    await pilot.pause()


async def test_left_and_right_choose_a_step_and_the_newest_is_followed_again(
    busy_source: Any, text_of: TextOf
) -> None:
    newest = busy_source.state.steps.last.step
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, "5")
        assert "the newest" in text_of(app) and app.model.step is None
        await opened(app, pilot, "left", "left")
        assert app.model.step == newest - 2
        assert f"Step {newest - 2}" in text_of(app)
        await opened(app, pilot, "right", "right")
        assert app.model.step is None
        await opened(app, pilot, "left", "escape")
        assert app.model.step is None


async def test_enter_opens_the_request_at_the_token_of_that_step(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "5", "left", "left", "left", "down")
        step, request = app.model.step, app.model.selected
        assert request in {row.request for row in busy_source.state.steps.find(step).rows}
        await opened(app, pilot, "enter")
        view = busy_source.state.requests.get(request)
        assert app.model.detail and view.token_steps[app.model.token] == step
        assert f"made by step {step}" in text_of(app)
        await opened(app, pilot, "escape")
        assert (app.model.page, app.model.detail, app.model.step) == ("steps", False, step)


async def test_a_slow_token_leads_to_its_step_and_back(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, "2", "down", "enter", "n", "n")
        request = busy_source.state.requests.get(app.model.selected)
        token = app.model.token
        gaps = sorted(request.itl_ns, reverse=True)
        assert request.itl_ns[token - 1] == gaps[2]
        text = text_of(app)
        assert "ms =" in text and "own" in text and "Slowest tokens" in text
        await opened(app, pilot, "enter")
        assert app.model.page == "steps"
        assert app.model.step == request.token_steps[token]
        assert "▲" in text_of(app)
        await opened(app, pilot, "escape")
        assert (app.model.page, app.model.detail) == ("requests", True)
        assert app.model.token == token
        await opened(app, pilot, "escape")
        assert not app.model.detail


async def test_the_first_token_is_explained_from_the_arrival_on(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, "2", "down", "enter")
        app.model.token = 0
        await opened(app, pilot)
        text = text_of(app)
        assert "the time to it" in text and "own prompt" in text


def test_a_step_is_taken_apart_in_words(busy_state: SessionState) -> None:
    last = busy_state.steps.last
    assert isinstance(last, Step) and chosen_step(view_of(busy_state)) is last
    rows = [plain(row) for row in StepShares(id="s").body(view_of(busy_state), 116, 5)]
    assert "batch" in rows[0] and "free" in rows[2]
    assert "decode" in rows[1] and "host 0.9" in rows[1]
    gone = view_of(busy_state, step=10**9)
    for panel in (StepShares(id="s"), StepMembers(id="m")):
        assert "is not among those that are kept" in plain(panel.body(gone, 116, 5)[0])


async def test_a_press_chooses_a_step_and_a_request(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(app, pilot, "5", "left", "down")
        marks = next(line for line in text_of(app).split("\n") if "▲" in line)
        x, step = marks.index("▲"), app.model.step
        await pilot.click("StepColumns", offset=(x - 3, 2))
        await pilot.pause()
        assert app.model.step == step - 3
        rows = members(busy_source.state.steps.find(step - 3))
        await pilot.click("StepMembers", offset=(6, 4))
        await pilot.pause()
        assert app.model.selected == rows[2].request
        await pilot.click("StepMembers", offset=(6, 4))
        await opened(app, pilot)
        assert app.model.detail and app.model.selected == rows[2].request
