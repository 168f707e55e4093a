"""Attention of one new token per sequence over its pages, the context split among programs.

Source: Flash-Decoding (Dao et al., 2023): each split keeps its own softmax; the last one to end
merges them. The query heads that share a KV head ride in one tile, so that K and V are read once.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import power_of_two
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, overlap, wait_for_previous
from engine.kernels.paged import (
    NO_SCORE,
    NO_WINDOW,
    check_attention,
    check_tables,
    load_rows,
    page_rows,
)
from engine.kernels.splits import (
    check_splits,
    merge_if_last,
    rows_of,
    split_span,
)

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool
    from engine.kernels.splits import DecodeWorkspace


class DecodeTiles(NamedTuple):
    """How the kernel is cut: tokens per tile, least tokens per split, warps, pipeline stages."""

    tile: int
    min_split: int
    num_warps: int
    num_stages: int


def choose_tiles(dtype: torch.dtype) -> DecodeTiles:
    """The fastest on an H200 of those that spill no registers, by the compiler's report.

    With three stages more programs fit a multiprocessor than with five: 128 x 1024 tokens took 65
    us, not 81. float32 has no tensor cores and needs more threads for the same registers.
    """
    if dtype.itemsize > 2:
        return DecodeTiles(tile=32, min_split=256, num_warps=8, num_stages=3)
    return DecodeTiles(tile=64, min_split=256, num_warps=4, num_stages=3)


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
    counters,
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
    PART_M: tl.constexpr,
    TILE: tl.constexpr,
    MIN_SPLIT: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    kv_head = tl.program_id(0)
    sequence = tl.program_id(1)
    split = tl.program_id(2)
    num_heads = tl.num_programs(0) * GROUP

    # The step brought these; the kernel before writes none of them.
    row = tl.load(query_starts + sequence)
    num_new = tl.load(query_starts + sequence + 1) - row
    context = tl.load(context_lens + sequence)
    wait_for_previous(OVERLAPS)
    if num_new != 1:
        return
    first_visible = tl.maximum(context - window, 0)
    # Splits start at multiples of TILE, so each tile of a short window lies in whole pages.
    begin = first_visible // TILE * TILE
    start, end, num_live = split_span(begin, context, split, num_splits, MIN_SPLIT, TILE, IS_SPLIT)
    # A context of 0 tokens (a padded row) has no split that is live: the first writes its 0.
    if (start >= end) & (split > 0):
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

    # Not before the loop: the programs of the product after this one would gather where few
    # contexts are long, 0.08 ms of a step of one sequence on an H200.
    begin_next(OVERLAPS)
    # A context of 0 tokens has no tile either.
    l_safe = tl.where(l_i > 0.0, l_i, 1.0)
    out_row = out + row.to(tl.int64) * num_heads * HEAD_DIM + kv_head * GROUP * HEAD_DIM
    if num_live <= 1:
        out_ptrs = out_row + offs_m[:, None] * HEAD_DIM + offs_d[None, :]
        tl.store(out_ptrs, (acc / l_safe[:, None]).to(out.dtype.element_ty), mask=q_mask)
    if IS_SPLIT:
        if num_live > 1:
            head = sequence * tl.num_programs(0) + kv_head
            part = (head * num_splits + split) * PART_M + offs_m
            tl.store(
                parts + part[:, None] * HEAD_DIM + offs_d[None, :],
                acc / l_safe[:, None],
                mask=q_mask,
            )
            tl.store(lse + part, m_i + tl.log2(l_safe), mask=offs_m < GROUP)
            merge_if_last(
                parts,
                lse,
                counters,
                out_row,
                head,
                split,
                num_splits,
                num_live,
                GROUP,
                HEAD_DIM,
                BLOCK_D,
                PART_M,
            )


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
    num_splits: int = 1,
    workspace: DecodeWorkspace | None = None,
    tiles: DecodeTiles | None = None,
) -> Tensor:
    """Writes attention of each sequence that brings one token into its row of `out`; returns `out`.

    q (T, H, D), may be strided in T and H; out (T, H * D) contiguous, rows of other sequences stay.
    More than one split needs a workspace.
    No context gives 0. Never waits for the device and allocates nothing. Raises: ValueError or
    TypeError.
    """
    check_attention(q, pool, out)
    check_tables(block_tables, query_starts, context_lens)
    num_heads, head_dim = q.shape[1:]
    num_sequences, num_kv_heads = block_tables.shape[0], pool.k.shape[1]
    group = num_heads // num_kv_heads
    check_splits(workspace, num_splits, num_sequences * num_kv_heads, group, head_dim)
    tiles = tiles or choose_tiles(q.dtype)
    launch(
        _decode_kernel,
        (num_kv_heads, num_sequences, num_splits),
        q,
        *pool,
        block_tables,
        query_starts,
        context_lens,
        out,
        *(workspace or (out, out, out)),
        scale * math.log2(math.e),
        window or NO_WINDOW,
        *q.stride()[:2],
        *pool.k.stride()[:3],
        block_tables.stride(0),
        num_splits,
        GROUP=group,
        HEAD_DIM=head_dim,
        PAGE=pool.k.shape[2],
        BLOCK_M=max(16, power_of_two(group)),
        BLOCK_D=max(16, power_of_two(head_dim)),
        PART_M=rows_of(group),
        TILE=tiles.tile,
        MIN_SPLIT=tiles.min_split,
        IS_SPLIT=num_splits > 1,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
        **overlap(q.device),
    )
    return out


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
