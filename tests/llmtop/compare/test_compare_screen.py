"""The comparison on a screen: what stands where at two sizes, and what its keys do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.app import App

from llmtop.compare.app import CompareApp, opened
from llmtop.compare.choice import Choice
from llmtop.keys import COMPARE_KEYS
from llmtop.screens.compare import CompareScreen
from llmtop.screens.help import HelpScreen
from llmtop.widgets.comparecurves import axis_top, overlaid, shares_below
from llmtop.widgets.comparemetrics import CompareMetrics
from llmtop.widgets.rows import plain
from profiler.compare.comparison import Comparison, compare
from profiler.compare.run import read_run

TextOf = Callable[[App[Any]], str]
SIZES = [(80, 24), (120, 40)]


@pytest.fixture(scope="module")
def comparison(base: Path, few_pages: Path) -> Comparison:
    return compare(read_run(base), read_run(few_pages))


@pytest.fixture
def choice(comparison: Comparison) -> Choice:
    return Choice(comparison)


@pytest.mark.parametrize("size", SIZES)
async def test_all_parts_stand_on_the_screen(
    choice: Choice, size: tuple[int, int], text_of: TextOf
) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        text = text_of(app)
        lines = text.splitlines()
        assert len(lines) == size[1]
        assert " COMPARE " in lines[0]
        assert "base.db" in lines[1] and "few.db" in lines[2]
        assert ("num_pages 256 → 24" in text) == (size[0] >= 112)
        for part in ("ttft p50 ms", "! worse", "Share of e2el", "Requests slower by most"):
            assert part in text
        first = choice.worst[0]
        (row,) = [line for line in lines if "▶" in line]
        assert first.name_a in row and first.name_b in row
        assert "q quit" in lines[-1] and "Enter open" in lines[-1]


@pytest.mark.parametrize("size", SIZES)
async def test_no_column_is_cut(choice: Choice, size: tuple[int, int], text_of: TextOf) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        body = text_of(app).splitlines()[4:-1]
        assert not [line for line in body if "…" in line]


async def test_every_metric_can_be_scrolled_to(choice: Choice, text_of: TextOf) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "step p99 ms" not in text_of(app)
        await pilot.press("tab", "pagedown", "pagedown", "pagedown")
        await pilot.pause()
        assert isinstance(app.focused, CompareMetrics)
        assert "step p99 ms" in text_of(app)
        await pilot.press("tab", "j")
        assert choice.cursor == 1


async def test_keys_choose_request_latency_and_side(choice: Choice, text_of: TextOf) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("j", "j", "x")
        await pilot.pause()
        assert (choice.cursor, choice.side) == (2, "A")
        assert "Enter opens it in A" in text_of(app)
        await pilot.press("pagedown")
        assert choice.cursor == len(choice.worst) - 1
        seen = set()
        for _ in choice.comparison.distributions:
            await pilot.press("c")
            await pilot.pause()
            seen.add(choice.latency)
            assert f"Share of {choice.latency} up to x" in text_of(app)
        assert seen == {found.latency for found in choice.comparison.distributions}
        assert choice.cursor == 0


@pytest.mark.parametrize("side", ["A", "B"])
async def test_enter_leads_to_the_requests_waterfall_there(
    choice: Choice, side: str, text_of: TextOf
) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("j", *(["x"] if side == "A" else []), "enter")
    pair = app.return_value
    assert pair == choice.worst[1]
    replay = opened(choice, pair)
    async with replay.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.3)
        text = text_of(replay)
        name = pair.name_a if side == "A" else pair.name_b
        assert f"Request {name}" in text and "Waterfall" in text
        request = replay.source.poll(0).requests.get(replay.model.selected)
        assert request is not None and request.phase == "done"
        e2el_ms = pair.a_ms if side == "A" else pair.b_ms
        assert request.e2el_ns / 1e6 == pytest.approx(e2el_ms)
    replay.source.stop()


async def test_help_lists_the_keys_of_the_comparison(choice: Choice, text_of: TextOf) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        text = text_of(app)
        assert all(key.help[:40] in text for key in COMPARE_KEYS)
        assert "Filter fields" not in text and "built-in load" not in text


def test_every_key_of_the_comparison_does_something() -> None:
    for key in COMPARE_KEYS:
        name = key.action.partition("(")[0]
        owner = CompareApp if name.startswith("app.") else CompareScreen
        assert hasattr(owner, f"action_{name.removeprefix('app.')}"), key


async def test_without_pairs_there_is_no_request_to_open(base: Path, text_of: TextOf) -> None:
    run = read_run(base)
    shifted = replace(
        run, requests=replace(run.requests, prompt_tokens=run.requests.prompt_tokens + 1)
    )
    app = CompareApp(Choice(compare(run, shifted)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        assert app.is_running
        text = text_of(app)
        assert "requests do not pair up" in text


async def test_themes_change_on_the_comparison_too(choice: Choice) -> None:
    app = CompareApp(choice)
    async with app.run_test(size=(80, 24)) as pilot:
        before = app.theme
        await pilot.press("t")
        await pilot.pause()
        assert app.theme != before


def test_curves_rise_from_nothing_to_all(comparison: Comparison) -> None:
    for found in comparison.distributions:
        top = axis_top(found)
        for values in (found.a, found.b):
            curve = [v for v in shares_below(values, found.shares, top, 200) if v is not None]
            assert curve == sorted(curve) and curve[-1] >= 0.9
    assert shares_below([5.0, 5.0], [0.0, 1.0], 4.0, 4) == [None] * 4


def test_a_cell_shows_the_dots_of_both() -> None:
    row = overlaid((("⠁ ⠁", "chart"),), (("⠂⠄ ", "chart"),))
    assert plain(row) == "⠃⠄⠁"
    assert [role for _, role in row] == ["value", "prefill", "chart2"]


def test_the_axis_is_not_stretched_by_a_single_outlier(comparison: Comparison) -> None:
    found = comparison.distributions[0]
    worst = found.b[-1]
    assert axis_top(found) <= 2.1 * max(found.a[98], found.b[98])
    assert worst >= float(np.max(found.b[:99]))
