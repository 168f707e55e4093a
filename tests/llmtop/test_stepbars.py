"""The steps panel: a bar for every step, a mark under those that carried prefill."""

import pytest

from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.rows import plain, width_of
from llmtop.widgets.stepbars import (
    Batch,
    Batches,
    StepBars,
    batch_of,
    duration_ms,
    step_bars,
    step_facts,
    step_table,
)
from profiler.events import Step, StepRow
from profiler.state import SessionState

MS = 1_000_000


def step(number: int, ms: float, prefill: int = 0, device_ns: int | None = None) -> Step:
    rows = [StepRow(1, 0, 1), StepRow(2, 0, 1)]
    if prefill:
        rows.append(StepRow(3, prefill, 0))
    return Step(
        0, int(ms * MS), number, MS, device_ns, tuple(rows), 4, 3, 20, 10, 70,
        "hit" if number else "",
    )  # fmt: skip


def batched(*steps: Step) -> tuple[list[Step], list[Batch]]:
    return list(steps), [batch_of(step) for step in steps]


def test_bars_are_as_high_as_the_steps_were_long() -> None:
    rows = step_bars(*batched(step(1, 5), step(2, 5), step(3, 10), step(4, 10)), 2, 4)
    drawn = [plain(row) for row in rows[:-1]]
    assert drawn == [" ⣿", " ⣿", "⣿⣿", "⣿⣿"]


def test_prefill_is_marked_and_not_by_colour_alone() -> None:
    steps = [step(1, 5), step(2, 5), step(3, 5, prefill=64), step(4, 5)]
    rows = step_bars(*batched(*steps), 3, 2)
    assert plain(rows[-1]) == "  ▒"
    assert [role for _, role in rows[0]] == ["decode", "decode", "prefill"]


def test_a_step_in_words_names_its_batch_and_what_is_not_measured() -> None:
    short, long = step(0, 12.5), step(1, 44, prefill=1024, device_ns=40 * MS)
    text = plain(step_facts(short, batch_of(short), 100))
    assert text == "12.5 ms  batch 2 decode  host 1.0 ms  device --"
    text = plain(step_facts(long, batch_of(long), 100))
    assert "2 decode + 1 prefill of 1 024 tokens" in text
    assert "device 40.0 ms" in text and "graph hit" in text
    for width in range(8, len(text) + 1):
        shorter = plain(step_facts(long, batch_of(long), width))
        assert len(shorter) <= width and shorter.split("  ")[0] == "44.0 ms"
        assert text.startswith(shorter) or "1 prefill  " in shorter + "  "


def test_the_table_begins_with_the_newest_step() -> None:
    newest = batched(*(step(n, 10 + n, prefill=7 * (n == 3)) for n in range(1, 9)))
    rows = step_table(*newest, 80, 5)
    assert [plain(row).split()[0] for row in rows[1:]] == ["8", "7", "6", "5"]
    line = plain(step_table(*batched(*[step(3, 13, prefill=7)] * 9), 80, 4)[1]).split()
    assert line == ["3", "13.0", "1.0", "--", "2", "7", "4", "20", "10", "70"]
    assert step_table(*batched(step(1, 1)), 80, 2) == []


@pytest.mark.parametrize("width", [9, 42, 45, 76])
def test_a_column_that_does_not_fit_is_left_out_whole(width: int) -> None:
    head, line, *_ = (plain(r) for r in step_table(*batched(*[step(3, 13)] * 9), width, 4))
    assert len(head) == len(line) <= width
    assert (
        head.split()
        == "step ms host device decode prefill waiting used cached free".split()[
            : len(line.split())
        ]
    )


def test_what_is_remembered_of_a_step_is_what_its_rows_say(busy_state: SessionState) -> None:
    steps, batches = list(busy_state.steps.ring), Batches()
    for shown in (steps[:40], steps[:40], steps[20:60], steps[:10], [step(7, 5), step(7, 9)]):
        assert batches.of(shown) == [batch_of(step) for step in shown]


@pytest.mark.parametrize("height", [1, 3, 9, 30])
def test_the_panel_never_draws_more_than_it_has(busy_state: SessionState, height: int) -> None:
    view = View(busy_state, ViewModel(), "LIVE", Connection("connected"))
    rows = StepBars(id="s").body(view, 76, height)
    assert len(rows) <= height
    assert all(width_of(row) <= 76 for row in rows[1:])
    newest = busy_state.steps.last
    assert newest is not None and duration_ms(newest) > 0
