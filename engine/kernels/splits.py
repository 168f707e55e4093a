"""A context split among programs: how many there are, and how the last to end merges the others.

Source: Flash-Decoding (Dao et al., 2023): each split keeps its own softmax.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.checks import expect_contiguous, expect_shape
from engine.kernels.paged import NO_SCORE

if TYPE_CHECKING:
    from torch import Tensor

MAX_SPLITS = 64
# Splits that one program merges: two such merges, one after the other, take less time than one of
# more splits. A merge waits a microsecond for every few parts.
MERGED_BY_ONE = 8
# How many splits' parts the merge asks for before it waits. 8 and 16 take up to a fifth longer.
MERGED_AT_ONCE = 4
# Programs of one wave on a multiprocessor; 3 are as good where heads are few, 6 up to 15 % slower.
PROGRAMS_PER_SM = 4

# The same for kernels.
TEAM = tl.constexpr(MERGED_BY_ONE)
AT_ONCE = tl.constexpr(MERGED_AT_ONCE)


def choose_splits(
    num_rows: int,
    max_context: int,
    num_sms: int,
    min_split: int,
    programs_per_sm: int = PROGRAMS_PER_SM,
) -> int:
    """The number of splits that fills `num_sms`; `num_rows` is sequences times KV heads.

    It fixes the grid only: the kernel gives short sequences fewer splits, whatever this says.
    Where rows are few, even short contexts are split: one of 256 tokens took 4.8 us on an H200
    instead of 6.4, one of 1,024 7.4 instead of 9.8.
    """
    to_fill = programs_per_sm * num_sms // max(1, num_rows)
    by_work = ceil_div(max_context, min_split)
    if to_fill >= MERGED_BY_ONE:
        by_work = max(by_work, MERGED_BY_ONE)
    return max(1, min(to_fill, by_work, MAX_SPLITS))


class DecodeWorkspace(NamedTuple):
    """Where splits leave their parts; one launch after another may use it.

    parts (P, M, D) fp32 and log2-sum-exp (P, M), a row per program; counters (P,) int32 tell how
    many splits of a head, or of a team of them, are done, and are 0 between launches.
    """

    parts: Tensor
    lse: Tensor
    counters: Tensor


def allocate_workspace(
    num_programs: int, group: int, head_dim: int, device: torch.device
) -> DecodeWorkspace:
    """Room for the parts of so many programs, with `group` query heads a KV head."""
    rows = (num_programs, rows_of(group))
    return DecodeWorkspace(
        torch.empty(*rows, head_dim, dtype=torch.float32, device=device),
        torch.empty(rows, dtype=torch.float32, device=device),
        torch.zeros(rows[0], dtype=torch.int32, device=device),
    )


def rows_of(group: int) -> int:
    """Of a part."""
    return max(8, power_of_two(group))


@triton.jit
def split_span(
    begin,
    context,
    split,
    num_splits,
    MIN_SPLIT: tl.constexpr,
    TILE: tl.constexpr,
    IS_SPLIT: tl.constexpr,
):
    """Where the split starts and ends, and how many splits of [begin, context) are live.

    Splits are multiples of TILE but the last one; one that is not live starts at or after its end.
    """
    start = begin
    end = context
    num_live = 1
    if IS_SPLIT:
        # Where programs are few, a short context is cut for as many as one of them can merge.
        as_few = tl.minimum(tl.maximum(tl.cdiv(context - begin, TEAM), 1), MIN_SPLIT)
        least = tl.where(num_splits >= TEAM, as_few, MIN_SPLIT)
        wanted = tl.maximum(tl.cdiv(context - begin, num_splits), least)
        length = tl.cdiv(wanted, TILE) * TILE
        num_live = tl.cdiv(context - begin, length)
        start = begin + split * length
        end = tl.minimum(start + length, context)
    return start, end, num_live


@triton.jit
def merge_if_last(
    parts,
    lse,
    counters,
    out_row,
    head,
    split,
    num_splits,
    num_live,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PART_M: tl.constexpr,
):
    """To be called by each live split of `head` when its part and its log2-sum-exp are stored.

    Of many splits each team of them is merged by the last of it, at the same time as the others,
    and the last team merges the teams. The order of the sums does not depend on who was last.
    """
    first = head * num_splits
    offs_m = tl.arange(0, PART_M)
    offs_d = tl.arange(0, BLOCK_D)
    inside = offs_m < GROUP
    lanes = inside[:, None] & (offs_d < HEAD_DIM)[None, :]
    # Every thread's part is there before this program counts as done.
    tl.debug_barrier()
    num_teams = tl.cdiv(num_live, TEAM)
    is_last = num_teams == 1
    if num_teams > 1:
        team = split // TEAM
        begin = first + team * TEAM
        size = tl.minimum(TEAM, num_live - team * TEAM)
        # There are fewer teams than splits, so each has a counter beside that of the teams.
        is_last = _counts_last(counters + first + 1 + team, size)
        if is_last:
            merged, sums = _merged(parts, lse, begin, size, 1, GROUP, HEAD_DIM, BLOCK_D, PART_M)
            tl.debug_barrier()  # all threads have read the part that is replaced
            rows = begin * PART_M + offs_m
            tl.store(parts + rows[:, None] * HEAD_DIM + offs_d[None, :], merged, mask=lanes)
            tl.store(lse + rows, sums, mask=inside)
            tl.debug_barrier()
    if is_last:
        step = tl.where(num_teams > 1, TEAM, 1)
        size = tl.where(num_teams > 1, num_teams, num_live)
        if _counts_last(counters + first, size):
            merged, sums = _merged(parts, lse, first, size, step, GROUP, HEAD_DIM, BLOCK_D, PART_M)
            out_ptrs = out_row + offs_m[:, None] * HEAD_DIM + offs_d[None, :]
            tl.store(out_ptrs, merged.to(out_row.dtype.element_ty), mask=lanes)


@triton.jit
def _counts_last(counter, size):
    """Whether this program is the last of `size` to count here; the counter is then 0 again."""
    is_last = tl.atomic_add(counter, 1, sem="acq_rel") == size - 1
    if is_last:
        tl.store(counter, 0)
    return is_last


@triton.jit
def _merged(
    parts,
    lse,
    first,
    size,
    step,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PART_M: tl.constexpr,
):
    """The parts `first`, `first + step`, ... weighed by their sums, and the sum of all of them.

    Other programs wrote them just now: they are read past the multiprocessor's own cache.
    """
    offs_m = tl.arange(0, PART_M)
    offs_d = tl.arange(0, BLOCK_D)
    inside = offs_m < GROUP
    m_i = tl.full((PART_M,), NO_SCORE, tl.float32)
    l_i = tl.zeros((PART_M,), tl.float32)
    acc = tl.zeros((PART_M, BLOCK_D), tl.float32)
    for start in range(0, size, AT_ONCE):
        for ahead in tl.static_range(AT_ONCE):
            index = start + ahead
            live = inside & (index + offs_m * 0 < size)
            rows = (first + index * step) * PART_M + offs_m
            mine = tl.load(lse + rows, mask=live, other=NO_SCORE, cache_modifier=".cg")
            ptrs = parts + rows[:, None] * HEAD_DIM + offs_d[None, :]
            mask = live[:, None] & (offs_d < HEAD_DIM)[None, :]
            values = tl.load(ptrs, mask=mask, other=0.0, cache_modifier=".cg")
            m_new = tl.maximum(m_i, mine)
            kept = tl.exp2(m_i - m_new)
            weights = tl.where(live, tl.exp2(mine - m_new), 0.0)
            l_i = l_i * kept + weights
            acc = acc * kept[:, None] + values * weights[:, None]
            m_i = m_new
    l_safe = tl.where(l_i > 0.0, l_i, 1.0)
    return acc / l_safe[:, None], m_i + tl.log2(l_safe)


def check_splits(
    workspace: DecodeWorkspace | None, num_splits: int, num_rows: int, group: int, head_dim: int
) -> None:
    """Raises: ValueError where the workspace is too small or of another shape."""
    if num_splits == 1:
        return
    if num_splits > MAX_SPLITS:
        raise ValueError(f"there may be {MAX_SPLITS} splits, not {num_splits}")
    if workspace is None or num_splits * num_rows > workspace.parts.shape[0]:
        raise ValueError(f"no workspace for {num_splits} splits of {num_rows} heads")
    rows = (workspace.parts.shape[0], rows_of(group))
    expect_shape("workspace.parts", workspace.parts, (*rows, head_dim))
    expect_shape("workspace.lse", workspace.lse, rows)
    expect_shape("workspace.counters", workspace.counters, rows[:1])
    for name, tensor in workspace._asdict().items():
        expect_contiguous(f"workspace.{name}", tensor)
