"""Rates of a window's parts, from steps whose work is counted by hand."""

from __future__ import annotations

import msgspec
import pytest

from profiler.events import KernelRow, KernelWindow, ModelShape, SessionStart, Step
from profiler.kernel_rates import PartRate, part_rates

S = 1_000_000_000
MS = 1_000_000
# 300 parameters of 2 bytes; a token's K and V are 40 bytes; 1 MB/s and 10 MFLOP/s at most.
SHAPE = ModelShape(300, 200, 60, 50, 5, 16)
START = SessionStart(
    10 * S, S, "0", "m", "cuda:0", 2, 10, 16, 16 * 40, 600, 64, 8, 64, {}, 1e6, 1e7, SHAPE
)
STEP = Step(
    10 * S, 11 * S, 1, MS, 4 * MS, (), 0, 2, 0, 0, 10,
    computed_tokens=2, sampled_rows=2, context_tokens=42, attended_pairs=42,
)  # fmt: skip
WINDOW = KernelWindow(
    12 * S, 10 * S, 0, 1, 2, "cuda",
    (
        KernelRow("gemm", 2, 3 * MS, "linear"),
        KernelRow("attend", 2, 2 * MS, "attention"),
        KernelRow("others", 9, MS, "linear"),
        KernelRow("copy", 9, 70 * MS),
    ),
)  # fmt: skip


def test_each_part_s_work_is_over_its_own_time() -> None:
    linear, attention = part_rates(START, WINDOW, [STEP, STEP])
    # 250 weights of 2 bytes a step, 2 operations each for 2 tokens: 0.5 ms of reading of 2.
    assert linear == PartRate("linear", 4 * MS, 250e3, 500e3, 0.25, "memory")
    # 42 tokens of 40 bytes, 16 operations each.
    assert attention.mem_bytes_per_s == pytest.approx(42 * 40 * 2 / 2e-3)
    assert attention.flops_per_s == pytest.approx(16 * 42 * 2 / 2e-3)
    assert attention.share == pytest.approx(2 * 1.68 / 2)


def test_the_limit_is_the_ceiling_that_is_reached_first() -> None:
    prefill = msgspec.structs.replace(STEP, computed_tokens=900, attended_pairs=90_000)
    linear, attention = part_rates(START, WINDOW, [prefill, prefill])
    assert (linear.limit, attention.limit) == ("matmul", "matmul")
    unmeasured = msgspec.structs.replace(START, read_bytes_per_s=None)
    linear, _ = part_rates(unmeasured, WINDOW, [STEP, STEP])
    assert (linear.share, linear.limit) == (None, "")


def test_no_rate_without_every_step_or_for_unknown_parts() -> None:
    assert part_rates(START, WINDOW, [STEP, None]) == []
    assert part_rates(START, WINDOW, []) == []
    older = msgspec.structs.replace(WINDOW, kernels=(KernelRow("gemm", 2, 3 * MS),))
    assert part_rates(START, older, [STEP, STEP]) == []
