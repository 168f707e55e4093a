"""Attention of one new token per sequence over packed pages, the context split among programs.

As paged_decode.py, a page a step, with products turned as packed_turned.py says. A split walks its
packed pages; the first one also has the first page where that is wide, the last one the page that
the token itself lies in.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import power_of_two
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, overlap, wait_for_previous
from engine.kernels.packed_pool import check_packed_attention, sides_of
from engine.kernels.packed_turned import (
    add_page,
    add_wide,
    load_queries,
    nothing_seen,
    packed_scores,
    query_sums,
    settled,
)
from engine.kernels.paged import NO_WINDOW, check_tables
from engine.kernels.splits import (
    check_splits,
    merge_if_last,
    rows_of,
    split_span,
)

if TYPE_CHECKING:
    from torch import Tensor

    from engine.kernels.packed_pool import PackedPool
    from engine.kernels.splits import DecodeWorkspace
    from engine.kv.formats import RecordLayout

# Tokens of a wide page that are read at once: few, as their rows pass through registers.
WIDE_TILE = 32
# Programs of one wave on a multiprocessor: as many of one warp as its registers hold.
PROGRAMS_PER_SM = 8


class PackedTiles(NamedTuple):
    """How the kernel is cut: least tokens per split, warps, pipeline stages."""

    min_split: int
    num_warps: int
    num_stages: int


def choose_tiles(dtype: torch.dtype) -> PackedTiles:
    """One warp: softmax and operands stay within it, and no barrier is between its steps.

    H100, int4, 16 sequences of 32,768 tokens: 205 us, with two warps 210 to 280; of stages 2 to 4
    are alike.
    """
    if dtype.itemsize > 2:
        return PackedTiles(min_split=256, num_warps=8, num_stages=2)
    return PackedTiles(min_split=256, num_warps=1, num_stages=3)


@triton.jit(do_not_specialize=["num_packed", "window", "stride_table", "num_splits"])
def _packed_decode_kernel(
    q,
    records,
    k_wide,
    v_wide,
    block_tables,
    query_starts,
    context_lens,
    slots,
    out,
    parts,
    lse,
    counters,
    num_packed,
    factor,
    window,
    stride_q_token,
    stride_q_head,
    stride_page,
    stride_head,
    stride_token,
    stride_table,
    num_splits,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    RECORD_BYTES: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PART_M: tl.constexpr,
    WIDE: tl.constexpr,
    MIN_SPLIT: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    WINDOWED: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    wait_for_previous(OVERLAPS)
    PAGE: tl.constexpr = KEY.page
    HEAD_DIM: tl.constexpr = KEY.head_dim
    DTYPE: tl.constexpr = q.dtype.element_ty
    OPERAND: tl.constexpr = tl.float32 if DTYPE == tl.float32 else tl.float16
    NUM_PIECES: tl.constexpr = VALUE.num_word_pieces
    kv_head = tl.program_id(0)
    sequence = tl.program_id(1)
    split = tl.program_id(2)
    num_kv_heads = tl.num_programs(0)

    row = tl.load(query_starts + sequence)
    if tl.load(query_starts + sequence + 1) - row != 1:
        return
    context = tl.load(context_lens + sequence)
    first_visible = tl.maximum(context - window, 0)
    begin = first_visible // PAGE * PAGE
    start, end, num_live = split_span(begin, context, split, num_splits, MIN_SPLIT, PAGE, IS_SPLIT)
    # A context of 0 tokens (a padded row) has no split that is live: the first writes its 0.
    if (start >= end) & (split > 0):
        return

    offs_m = tl.arange(0, BLOCK_M)
    live = offs_m < GROUP
    heads = kv_head * GROUP + offs_m
    q_rows = q + row.to(tl.int64) * stride_q_token + heads * stride_q_head
    queries = load_queries(q_rows, live, factor, KEY, OPERAND)
    sums = query_sums(queries, factor, KEY)

    largest, total, accs, rests, unit = nothing_seen(BLOCK_M, VALUE)
    table = block_tables + sequence.to(tl.int64) * stride_table
    own = tl.maximum(context - 1, 0) // PAGE
    first = tl.load(table)
    has_sink = (start == 0) & (own > 0) & (first >= num_packed)
    last_page = tl.minimum(tl.cdiv(end, PAGE), own)
    records += kv_head * RECORD_BYTES
    for page in tl.range(start // PAGE + has_sink.to(tl.int32), last_page, num_stages=STAGES):
        place = tl.load(table + page).to(tl.int64)
        record = records + place * num_kv_heads * RECORD_BYTES
        even, odd = packed_scores(queries, sums, record, factor, KEY, OPERAND, DTYPE)
        if WINDOWED:
            tokens = page * PAGE + 2 * tl.arange(0, KEY.half_block)
            even = tl.where((tokens >= first_visible)[:, None], even, -float("inf"))
            odd = tl.where((tokens + 1 >= first_visible)[:, None], odd, -float("inf"))
        largest, total, accs, rests, unit = add_page(
            largest, total, accs, rests, unit, even, odd, record, VALUE, OPERAND, DTYPE
        )
    total, accs = settled(total, accs, rests, unit, VALUE, OPERAND)

    # Tiles 0, ... of the first page, then those of the token's own.
    channels = tl.arange(0, BLOCK_D)
    inside = (channels < HEAD_DIM)[:, None] & live[None, :]
    query = tl.load(q_rows[None, :] + channels[:, None], mask=inside, other=0.0)
    TILES: tl.constexpr = PAGE // WIDE
    own_tokens = tl.where(end == context, context - own * PAGE, 0)
    own_page = tl.load(slots + row).to(tl.int64) // PAGE
    first_tile = tl.where(has_sink, 0, TILES)
    # Not read ahead: what that takes of shared memory would keep other programs out.
    for tile in tl.range(first_tile, TILES + tl.cdiv(own_tokens, WIDE), num_stages=1):
        is_sink = tile < TILES
        places = tile % TILES * WIDE + tl.arange(0, WIDE)
        tokens = tl.where(is_sink, 0, own * PAGE) + places
        written = tokens < context
        seen = written & (tokens >= first_visible)
        wide_page = tl.where(is_sink, first.to(tl.int64) - num_packed, own_page)
        rows = wide_page * stride_page + kv_head * stride_head + places * stride_token
        largest, total, accs = add_wide(
            largest,
            total,
            accs,
            query,
            k_wide + rows,
            v_wide + rows,
            written,
            seen,
            factor,
            VALUE,
            DTYPE,
        )

    begin_next(OVERLAPS)
    # A context of 0 tokens has no tile either.
    l_safe = tl.where(total > 0.0, total, 1.0)
    out_row = out + (row.to(tl.int64) * num_kv_heads + kv_head) * GROUP * HEAD_DIM
    head = sequence * num_kv_heads + kv_head
    part = (head * num_splits + split) * PART_M + offs_m
    for piece in tl.static_range(NUM_PIECES):
        words = tl.arange(0, VALUE.word_block)
        channels = VALUE.word_starts[piece] + 2 * words
        mask = (words < VALUE.piece // 2)[:, None] & live[None, :]
        result = accs[piece] / l_safe[None, :]
        if num_live <= 1:
            out_ptrs = out_row + offs_m[None, :] * HEAD_DIM + channels[:, None]
            tl.store(out_ptrs, result.to(out.dtype.element_ty), mask=mask)
        else:
            tl.store(parts + part[None, :] * HEAD_DIM + channels[:, None], result, mask=mask)
    if IS_SPLIT:
        if num_live > 1:
            tl.store(lse + part, largest + tl.log2(l_safe), mask=live)
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


def packed_decode(
    q: Tensor,
    pool: PackedPool,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    slots: Tensor,
    out: Tensor,
    *,
    scale: float,
    window: int | None = None,
    num_splits: int = 1,
    workspace: DecodeWorkspace | None = None,
    tiles: PackedTiles | None = None,
) -> Tensor:
    """Writes attention of each sequence that brings one token into its row of `out`; returns `out`.

    q (T, H, D), may be strided in T and H; out (T, H * D) contiguous, rows of other sequences stay.
    A token sees the pages before its own as `block_tables` name them, and its own in the wide page
    of its slot; `slots` (T,) are wide page * block_size + offset. More than one split needs a
    workspace. No context gives 0. Never waits for the device and allocates nothing. Raises:
    ValueError or TypeError.
    """
    records, wide, layout = pool
    check_packed_attention(q, pool, slots, out)
    check_tables(block_tables, query_starts, context_lens)
    head_dim, num_sequences, num_kv_heads = q.shape[2], block_tables.shape[0], records.shape[1]
    group = q.shape[1] // num_kv_heads
    check_splits(workspace, num_splits, num_sequences * num_kv_heads, group, head_dim)
    launch(
        _packed_decode_kernel,
        (num_kv_heads, num_sequences, num_splits),
        q,
        records,
        *wide,
        block_tables,
        query_starts,
        context_lens,
        slots,
        out,
        *(workspace or (out, out, out)),
        records.shape[0],
        scale * math.log2(math.e),
        window or NO_WINDOW,
        *q.stride()[:2],
        *wide.k.stride()[:3],
        block_tables.stride(0),
        num_splits,
        IS_SPLIT=num_splits > 1,
        WINDOWED=window is not None,
        **_compiled_for(layout, group, tiles or choose_tiles(q.dtype)),
        **overlap(q.device),
    )
    return out


def _compiled_for(layout: RecordLayout, group: int, tiles: PackedTiles) -> dict[str, Any]:
    """What the kernel is told when it is compiled, but whether there are splits."""
    key, value = sides_of(layout)
    return {
        "KEY": key,
        "VALUE": value,
        "RECORD_BYTES": layout.num_bytes,
        "GROUP": group,
        "BLOCK_M": power_of_two(group),
        "BLOCK_D": max(16, power_of_two(layout.head_dim)),
        "PART_M": rows_of(group),
        "WIDE": min(WIDE_TILE, layout.block_size),
        "MIN_SPLIT": tiles.min_split,
        "STAGES": tiles.num_stages,
        "num_warps": tiles.num_warps,
        "num_stages": tiles.num_stages,
    }
