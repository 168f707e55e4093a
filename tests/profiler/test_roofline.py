"""Bytes and operations counted by hand, and their shares of what the device can do."""

from __future__ import annotations

import msgspec
import pytest

from profiler.events import KvPacking, LayerFormat, ModelShape, SessionStart, Step, StepRow
from profiler.roofline import Work, busy_ns, floor_ns, work_of
from profiler.state import SessionState

S = 1_000_000_000
MS = 1_000_000
# Two layers of 100 weights, 60 of them beyond attention; a head of 50; 300 parameters of 2 bytes.
SHAPE = ModelShape(300, 200, 60, 50, 5, 16)
START = SessionStart(
    10 * S, S, "0", "m", "cuda:0", 2, 10, 16, 16 * 40, 600, 64, 8, 64, {}, 1e6, 1e7, SHAPE
)


def step(number: int = 1, **facts: object) -> Step:
    """Two rows that decode, contexts 30 and 12, in 10 ms of which the device had 4."""
    t_ns = 10 * S + number * 10 * MS
    rows = (StepRow(1, 0, 1), StepRow(2, 0, 1))
    whole = Step(
        t_ns, t_ns + 10 * MS, number, MS, 4 * MS, rows, 0, 2, 0, 0, 10,
        computed_tokens=2, sampled_rows=2, context_tokens=42, attended_pairs=42,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **facts)


def test_work_is_counted_from_shapes() -> None:
    weights, rows, kv = (200 + 50) * 2, 2 * 5 * 2, (42 + 2) * 40
    assert work_of(START, step()) == Work(weights + rows + kv, 2 * 2 * 250 + 16 * 42)


def test_packed_pages_are_read_as_they_lie() -> None:
    """Of 42 tokens of context 10 lie in wide pages; 40 bytes a packed token, 128 a wide one."""
    layer = LayerFormat("int4", "int4", 4, 4)
    packing = KvPacking("int4", "bfloat16", (layer, layer), 1024, 16 * 128, 4, 1)
    start = msgspec.structs.replace(START, packing=packing)
    weights, rows = (200 + 50) * 2, 2 * 5 * 2
    kv = 32 * 40 + 10 * 128 + 2 * 128 + 3 * 16 * 40
    told = step(wide_context_tokens=10, packed_pages=3)
    assert work_of(start, told).mem_bytes == weights + rows + kv


def test_without_a_sampled_row_head_and_tail_rest() -> None:
    chunk = step(computed_tokens=8, sampled_rows=0, context_tokens=8, attended_pairs=36)
    assert work_of(START, chunk) == Work((140 + 8 * 5) * 2 + 16 * 40, 2 * 8 * 140 + 16 * 36)


def test_what_is_not_told_is_not_guessed() -> None:
    assert work_of(msgspec.structs.replace(START, shape=None), step()) is None
    assert work_of(START, step(computed_tokens=0)) is None
    unmeasured = msgspec.structs.replace(START, read_bytes_per_s=None)
    assert floor_ns(unmeasured, Work(1, 1)) is None


def test_the_floor_is_the_ceiling_that_is_reached_first() -> None:
    assert floor_ns(START, Work(1e6, 1e6)) == S
    assert floor_ns(START, Work(1e6, 3e7)) == 3 * S


def test_a_cpu_is_busy_while_its_host_is_kept() -> None:
    assert busy_ns(step()) == 4 * MS
    assert busy_ns(step(device_ns=None)) == 9 * MS


def folded(start: SessionStart, *steps: Step) -> SessionState:
    state = SessionState()
    for event in (start, *steps):
        state.apply(event)
    return state


def test_rates_are_work_over_the_time_that_the_device_computed() -> None:
    work = work_of(START, step())
    assert work is not None
    rates = folded(START, *map(step, range(1, 6))).roofline.rates
    assert rates is not None
    assert rates.mem_bytes_per_s == pytest.approx(work.mem_bytes / 0.004)
    assert rates.flops_per_s == pytest.approx(work.flops / 0.004)
    assert rates.read_share == pytest.approx(rates.mem_bytes_per_s / 1e6)
    assert rates.matmul_share == pytest.approx(rates.flops_per_s / 1e7)


def test_a_share_above_its_ceiling_is_not_cut() -> None:
    low = msgspec.structs.replace(START, read_bytes_per_s=1e3)
    rates = folded(low, step()).roofline.rates
    assert rates is not None and rates.read_share is not None and rates.read_share > 1


def test_without_ceilings_there_are_rates_and_no_shares() -> None:
    bare = msgspec.structs.replace(START, read_bytes_per_s=None, matmul_flops_per_s=None)
    state = folded(bare, step())
    rates = state.roofline.rates
    assert rates is not None and rates.mem_bytes_per_s > 0
    assert rates.read_share is rates.matmul_share is None
    state.advance(12 * S)
    assert state.seconds.rows[0].possible_per_s is None


def test_rates_end_with_their_window() -> None:
    state = folded(START, step())
    state.advance(14 * S)
    assert state.roofline.rates is not None
    state.advance(15 * S)
    assert state.roofline.rates is None


def test_possible_tokens_are_those_of_steps_at_their_floor() -> None:
    state = folded(START, *map(step, range(1, 6)))
    state.advance(12 * S)
    work = work_of(START, step())
    assert work is not None
    floor_s = max(work.mem_bytes / 1e6, work.flops / 1e7)
    first, second = state.seconds.rows
    assert first.possible_per_s == pytest.approx(2 / floor_s)
    assert second.possible_per_s is None


def test_a_restored_state_goes_on_as_the_first() -> None:
    state = folded(START, step(1), step(2))
    again = SessionState.restore(state.keyframe())
    assert again.roofline.rates == state.roofline.rates
    for one in (state, again):
        one.apply(step(3))
        one.advance(12 * S)
    assert again.roofline.rates == state.roofline.rates is not None
    assert again.seconds.rows == state.seconds.rows
