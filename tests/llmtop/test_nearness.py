"""The line that says how close the engine is to its device."""

from __future__ import annotations

from typing import Any

from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.nearness import nearness
from llmtop.widgets.rows import Row, plain, width_of
from profiler.events import ModelShape, SessionStart, Step, StepRow
from profiler.state import SessionState

S = 1_000_000_000
SHAPE = ModelShape(10**9, 10**9, 10**8, 0, 0, 0)


def line(width: int, steps: int = 1, **ceilings: Any) -> Row:
    """A step that reads 2 GB and computes 2 GFLOP for its one token, in 1 ms of device time."""
    state = SessionState()
    state.apply(
        SessionStart(
            S, S, "0", "m", "cuda:0", 2, 10, 16, 16, 2 * 10**9, 64, 8, 64, shape=SHAPE, **ceilings
        )
    )
    row = (StepRow(1, 0, 1),)
    for number in range(steps):
        step = Step(S, S + 10**6, number, 0, 10**6, row, 0, 1, 0, 0, 10, "", "", 1, 1, 1, 1)
        state.apply(step)
    return nearness(View(state, ViewModel(), "LIVE", Connection("connected")), width)


def test_rates_stand_beside_their_shares_and_ceilings() -> None:
    found = line(90, read_bytes_per_s=4e12, matmul_flops_per_s=8e14)
    assert plain(found) == "reads 2.00 TB/s 50% of 4.00 TB/s  math 2.00 TFLOP/s <1% of 800 TFLOP/s"


def test_a_narrow_line_does_without_the_ceilings() -> None:
    found = line(44, read_bytes_per_s=4e12, matmul_flops_per_s=8e14)
    assert plain(found) == "reads 2.00 TB/s 50%  math 2.00 TFLOP/s <1%"
    assert width_of(found) <= 44


def test_more_than_the_ceiling_is_doubted_aloud() -> None:
    found = line(44, read_bytes_per_s=1.5e12, matmul_flops_per_s=8e14)
    assert (" 133%?", "warn") in found


def test_what_is_not_measured_is_not_available() -> None:
    assert plain(line(90)) == "reads 2.00 TB/s --  math 2.00 TFLOP/s --"
    assert plain(line(44, steps=0)) == "reads --  math --"
