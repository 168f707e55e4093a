"""Attention of one new token per sequence over its pages, the context split among programs.

Source: Flash-Decoding (Dao et al., 2023): each split keeps its own softmax, a second kernel merges.
The query heads that share a KV head ride in one tile, so that K and V are read once.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.checks import expect_contiguous, expect_dtype, expect_shape
from engine.kernels.overlap import begin_next, overlap, wait_for_previous
from engine.kernels.paged import (
    NO_SCORE,
    NO_WINDOW,
    check_attention,
    check_tables,
    load_rows,
    page_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool

MAX_SPLITS = 128
# Programs that fit one Hopper multiprocessor side by side: 72 of its 227 KiB each, at 128 channels
# in bfloat16. A grid of just so many runs as one wave.
PROGRAMS_PER_SM = 3


class DecodeTiles(NamedTuple):
    """How the kernel is cut: tokens per tile, least tokens per split, warps, pipeline stages."""

    tile: int
    min_split: int
    num_warps: int
    num_stages: int


def choose_tiles(dtype: torch.dtype) -> DecodeTiles:
    """What keeps the most bytes in flight without spilling registers, by the compiler's report.

    Triton's pipeline spends three of five stages on the page ids, which leaves two tiles of K and V
    under way. float32 has no tensor cores to feed and needs more threads for the same registers.
    """
    if dtype.itemsize > 2:
        return DecodeTiles(tile=32, min_split=256, num_warps=8, num_stages=3)
    return DecodeTiles(tile=64, min_split=256, num_warps=4, num_stages=5)


def choose_splits(num_rows: int, max_context: int, num_sms: int, tiles: DecodeTiles) -> int:
    """The number of splits that fills `num_sms`; `num_rows` is sequences times KV heads.

    It fixes the grid only: the kernel gives short sequences fewer splits, whatever this says.
    """
    to_fill = PROGRAMS_PER_SM * num_sms // max(1, num_rows)
    by_work = ceil_div(max_context, tiles.min_split)
    return max(1, min(to_fill, by_work, MAX_SPLITS))


class DecodeWorkspace(NamedTuple):
    """Where splits leave their parts: (S, H, splits, D) fp32 and log2-sum-exp (S, H, splits)."""

    parts: Tensor
    lse: Tensor


def allocate_workspace(
    num_sequences: int, num_heads: int, num_splits: int, head_dim: int, device: torch.device
) -> DecodeWorkspace | None:
    """Uninitialised; None when there is one split and so nothing to merge."""
    if num_splits == 1:
        return None
    rows = (num_sequences, num_heads, num_splits)
    return DecodeWorkspace(
        torch.empty(*rows, head_dim, dtype=torch.float32, device=device),
        torch.empty(rows, dtype=torch.float32, device=device),
    )


@triton.jit
def _split_length(span, num_splits, MIN_SPLIT: tl.constexpr, TILE: tl.constexpr):
    """Tokens per split, a multiple of TILE, so that num_splits of them cover `span`."""
    wanted = tl.maximum(tl.cdiv(span, num_splits), MIN_SPLIT)
    return tl.cdiv(wanted, TILE) * TILE


@triton.jit(do_not_specialize=["window", "stride_table", "num_splits"])
def _decode_kernel(
    q,
    k_pages,
    v_pages,
    block_tables,
    query_starts,
    context_lens,
    out,
    parts,
    lse,
    scale_log2,
    window,
    stride_q_token,
    stride_q_head,
    stride_page,
    stride_head,
    stride_token,
    stride_table,
    num_splits,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TILE: tl.constexpr,
    MIN_SPLIT: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    kv_head = tl.program_id(0)
    sequence = tl.program_id(1)
    split = tl.program_id(2)
    num_heads = tl.num_programs(0) * GROUP

    row = tl.load(query_starts + sequence)
    if tl.load(query_starts + sequence + 1) - row != 1:
        return
    context = tl.load(context_lens + sequence)
    first_visible = tl.maximum(context - window, 0)
    # Splits start at multiples of TILE, so each tile of a short window lies in whole pages.
    begin = first_visible // TILE * TILE
    start = begin
    end = context
    if IS_SPLIT:
        length = _split_length(context - begin, num_splits, MIN_SPLIT, TILE)
        start = begin + split * length
        end = tl.minimum(start + length, context)
        if start >= end:
            return

    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, TILE)
    offs_d = tl.arange(0, BLOCK_D)
    heads = kv_head * GROUP + offs_m
    q_mask = (offs_m < GROUP)[:, None] & (offs_d < HEAD_DIM)[None, :]
    q_row = q + row.to(tl.int64) * stride_q_token
    queries = tl.load(
        q_row + heads[:, None] * stride_q_head + offs_d[None, :], mask=q_mask, other=0.0
    )

    m_i = tl.full((BLOCK_M,), NO_SCORE, tl.float32)
    l_i = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    table = block_tables + sequence.to(tl.int64) * stride_table
    k_head = k_pages + kv_head * stride_head
    v_head = v_pages + kv_head * stride_head
    for first in range(start, end, TILE):
        tokens = first + offs_n
        visible = (tokens >= first_visible) & (tokens < end)
        rows = page_rows(table, first, offs_n, visible, stride_page, stride_token, PAGE, TILE)
        k = load_rows(k_head, rows, visible, HEAD_DIM, BLOCK_D)
        v = load_rows(v_head, rows, visible, HEAD_DIM, BLOCK_D)
        scores = tl.dot(queries, tl.trans(k), input_precision="ieee") * scale_log2
        scores = tl.where(visible[None, :], scores, -float("inf"))
        m_new = tl.maximum(m_i, tl.max(scores, 1))
        p = tl.exp2(scores - m_new[:, None])
        alpha = tl.exp2(m_i - m_new)
        l_i = l_i * alpha + tl.sum(p, 1)
        m_i = m_new
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")

    # A context of 0 tokens (a padded row) has no tile: its output is zero.
    l_safe = tl.where(l_i > 0.0, l_i, 1.0)
    result = acc / l_safe[:, None]
    if IS_SPLIT:
        part = (sequence.to(tl.int64) * num_heads + heads) * num_splits + split
        tl.store(parts + part[:, None] * HEAD_DIM + offs_d[None, :], result, mask=q_mask)
        tl.store(lse + part, m_i + tl.log2(l_safe), mask=offs_m < GROUP)
    else:
        out_row = out + row.to(tl.int64) * num_heads * HEAD_DIM
        out_ptrs = out_row + heads[:, None] * HEAD_DIM + offs_d[None, :]
        tl.store(out_ptrs, result.to(out.dtype.element_ty), mask=q_mask)


@triton.jit(do_not_specialize=["window", "num_splits"])
def _merge_kernel(
    parts,
    lse,
    query_starts,
    context_lens,
    out,
    window,
    num_splits,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TILE: tl.constexpr,
    MIN_SPLIT: tl.constexpr,
    ALL_SPLITS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    head = tl.program_id(0)
    sequence = tl.program_id(1)
    num_heads = tl.num_programs(0)

    row = tl.load(query_starts + sequence)
    if tl.load(query_starts + sequence + 1) - row != 1:
        return
    context = tl.load(context_lens + sequence)
    begin = tl.maximum(context - window, 0) // TILE * TILE
    length = _split_length(context - begin, num_splits, MIN_SPLIT, TILE)
    num_live = tl.cdiv(context - begin, length)

    first = (sequence.to(tl.int64) * num_heads + head) * num_splits
    every = tl.arange(0, ALL_SPLITS)
    lse_all = tl.load(lse + first + every, mask=every < num_live, other=-float("inf"))
    top = tl.maximum(tl.max(lse_all, 0), NO_SCORE)
    total = tl.sum(tl.exp2(lse_all - top), 0)
    offs_d = tl.arange(0, BLOCK_D)
    acc = tl.zeros((BLOCK_D,), tl.float32)
    for start in range(0, num_live, BLOCK_S):
        offs_s = start + tl.arange(0, BLOCK_S)
        live = offs_s < num_live
        weight = tl.exp2(tl.load(lse + first + offs_s, mask=live, other=-float("inf")) - top)
        mask = live[:, None] & (offs_d < HEAD_DIM)[None, :]
        ptrs = parts + (first + offs_s)[:, None] * HEAD_DIM + offs_d[None, :]
        acc += tl.sum(tl.load(ptrs, mask=mask, other=0.0) * weight[:, None], 0)
    # A context of 0 tokens has no part: its output is zero.
    result = acc / tl.where(total > 0.0, total, 1.0)
    out_row = out + (row.to(tl.int64) * num_heads + head) * HEAD_DIM
    tl.store(out_row + offs_d, result.to(out.dtype.element_ty), mask=offs_d < HEAD_DIM)


def paged_decode(
    q: Tensor,
    pool: LayerPool,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    out: Tensor,
    *,
    scale: float,
    window: int | None = None,
    workspace: DecodeWorkspace | None = None,
    tiles: DecodeTiles | None = None,
) -> Tensor:
    """Writes attention of each sequence that brings one token into its row of `out`; returns `out`.

    q (T, H, D), may be strided in T and H; out (T, H * D) contiguous, rows of other sequences stay.
    `workspace` of `allocate_workspace` sets the number of splits, None is one. No context gives 0.
    Never waits for the device and allocates nothing. Raises: ValueError or TypeError.
    """
    check_attention(q, pool, out)
    check_tables(block_tables, query_starts, context_lens)
    num_heads, head_dim = q.shape[1:]
    num_sequences, num_kv_heads = block_tables.shape[0], pool.k.shape[1]
    num_splits = _num_splits(workspace, num_sequences, num_heads, head_dim)
    parts, lse = workspace if workspace else (out, out)
    tiles = tiles or choose_tiles(q.dtype)
    group = num_heads // num_kv_heads
    cut = {"TILE": tiles.tile, "MIN_SPLIT": tiles.min_split}
    _decode_kernel[(num_kv_heads, num_sequences, num_splits)](
        q,
        pool.k,
        pool.v,
        block_tables,
        query_starts,
        context_lens,
        out,
        parts,
        lse,
        scale * math.log2(math.e),
        window or NO_WINDOW,
        q.stride(0),
        q.stride(1),
        *pool.k.stride()[:3],
        block_tables.stride(0),
        num_splits,
        GROUP=group,
        HEAD_DIM=head_dim,
        PAGE=pool.k.shape[2],
        BLOCK_M=max(16, power_of_two(group)),
        BLOCK_D=max(16, power_of_two(head_dim)),
        IS_SPLIT=num_splits > 1,
        **cut,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
        **overlap(q.device),
    )
    if workspace is not None and num_splits > 1:
        _merge(workspace, query_starts, context_lens, out, window, cut)
    return out


def _merge(
    workspace: DecodeWorkspace,
    query_starts: Tensor,
    context_lens: Tensor,
    out: Tensor,
    window: int | None,
    cut: dict[str, int],
) -> None:
    """Weighs the parts of each head's splits by their sums, into `out`."""
    parts, lse = workspace
    num_sequences, num_heads, num_splits, head_dim = parts.shape
    _merge_kernel[(num_heads, num_sequences)](
        parts,
        lse,
        query_starts,
        context_lens,
        out,
        window or NO_WINDOW,
        num_splits,
        HEAD_DIM=head_dim,
        BLOCK_D=power_of_two(head_dim),
        ALL_SPLITS=MAX_SPLITS,
        BLOCK_S=16,
        **cut,
        num_warps=4,
        **overlap(out.device),
    )


def _num_splits(
    workspace: DecodeWorkspace | None, num_sequences: int, num_heads: int, head_dim: int
) -> int:
    if workspace is None:
        return 1
    parts, lse = workspace
    num_splits = int(parts.shape[2])
    expect_shape("workspace.parts", parts, (num_sequences, num_heads, num_splits, head_dim))
    expect_shape("workspace.lse", lse, (num_sequences, num_heads, num_splits))
    for name, tensor in (("workspace.parts", parts), ("workspace.lse", lse)):
        expect_contiguous(name, tensor)
        expect_dtype(name, tensor, torch.float32)
    if num_splits > MAX_SPLITS:
        raise ValueError(f"there may be {MAX_SPLITS} splits, not {num_splits}")
    return num_splits


def reference(
    q: Tensor,
    pool: LayerPool,
    block_tables: Tensor,
    context_lens: Tensor,
    *,
    scale: float,
    window: int | None = None,
) -> Tensor:
    """The same in torch and fp32, for q (S, H, D), one row per sequence; (S, H * D) fp32."""
    rows = []
    group = q.shape[1] // pool.k.shape[1]
    for sequence, context in enumerate(context_lens.tolist()):
        pages = block_tables[sequence].long()
        k, v = (x[pages].transpose(0, 1).flatten(1, 2)[:, :context].float() for x in pool)
        if window is not None:
            k, v = k[:, -window:], v[:, -window:]
        queries = q[sequence].float().unflatten(0, (-1, group))
        weights = (queries @ k.transpose(1, 2) * scale).softmax(-1)
        rows.append((weights @ v).flatten())
    return torch.stack(rows)
