"""Attention of a chunk of new tokens over its sequence's pages, the cached prefix included.

Source: FlashAttention-2 (Dao, 2023): a tile of queries walks the keys once with an online softmax.
The rows of a tile are (token, query head) pairs of one KV head, so that a short chunk fills it too.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.launching import launch
from engine.kernels.paged import (
    NO_SCORE,
    NO_WINDOW,
    check_attention,
    check_tables,
    load_rows,
    page_rows,
)
from engine.kernels.tile_map import check_tile_map

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool


class PrefillTiles(NamedTuple):
    """How the kernel is cut: rows and keys per tile, warps, pipeline stages."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


class PrefillCuts(NamedTuple):
    """Long tiles re-read K and V least, short ones give more programs."""

    short: PrefillTiles
    long: PrefillTiles


def cuts_of(dtype: torch.dtype) -> PrefillCuts:
    """The two that the engine uses; larger tiles spill registers, by the compiler's report.

    64 rows are what one tensor-core instruction of a warp group takes.
    """
    if dtype.itemsize > 2:
        tiles = PrefillTiles(rows=32, keys=16, num_warps=4, num_stages=2)
        return PrefillCuts(tiles, tiles)
    return PrefillCuts(
        short=PrefillTiles(rows=64, keys=64, num_warps=4, num_stages=3),
        long=PrefillTiles(rows=128, keys=64, num_warps=8, num_stages=3),
    )


def choose_tiles(
    query_lens: Sequence[int], group: int, num_kv_heads: int, num_sms: int, dtype: torch.dtype
) -> PrefillTiles:
    """Long ones, unless they would leave multiprocessors without work."""
    short, long = cuts_of(dtype)
    num_tiles = sum(ceil_div(new * group, long.rows) for new in query_lens if new > 1)
    return short if num_tiles * num_kv_heads < num_sms else long


@triton.jit
def _attend_keys(
    m_i,
    l_i,
    acc,
    queries,
    k_head,
    v_head,
    table,
    first,
    positions,
    context,
    scale_log2,
    window,
    stride_page,
    stride_token,
    MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE: tl.constexpr,
    KEYS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One step of the online softmax over the KEYS tokens from `first` on."""
    offs_n = tl.arange(0, KEYS)
    tokens = first + offs_n
    written = tokens < context
    rows = page_rows(table, first, offs_n, written, stride_page, stride_token, PAGE, KEYS)
    k = load_rows(k_head, rows, written, HEAD_DIM, BLOCK_D)
    v = load_rows(v_head, rows, written, HEAD_DIM, BLOCK_D)
    scores = tl.dot(queries, tl.trans(k), input_precision="ieee")
    if MASKED:
        ahead = positions[:, None] - tokens[None, :]
        scores = tl.where((ahead >= 0) & (ahead < window), scores, -float("inf"))
    m_new = tl.maximum(m_i, tl.max(scores, 1) * scale_log2)
    p = tl.exp2(scores * scale_log2 - m_new[:, None])
    alpha = tl.exp2(m_i - m_new)
    l_new = l_i * alpha + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")
    return m_new, l_new, acc


@triton.jit(do_not_specialize=["window", "stride_table"])
def _prefill_kernel(
    q,
    k_pages,
    v_pages,
    block_tables,
    query_starts,
    context_lens,
    tile_map,
    out,
    scale_log2,
    window,
    stride_q_token,
    stride_q_head,
    stride_page,
    stride_head,
    stride_token,
    stride_table,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PAGE: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    num_heads = tl.num_programs(1) * GROUP
    sequence = tl.load(tile_map + 2 * tile)
    if sequence < 0:
        return
    first_row = tl.load(tile_map + 2 * tile + 1)
    chunk_start = tl.load(query_starts + sequence)
    num_new = tl.load(query_starts + sequence + 1) - chunk_start
    context = tl.load(context_lens + sequence)
    num_before = context - num_new

    offs_m = first_row + tl.arange(0, ROWS)
    offs_d = tl.arange(0, BLOCK_D)
    live = offs_m // GROUP < num_new
    # Rows past the chunk's end stand in for its last token, so that every row sees a key.
    tokens = tl.minimum(offs_m // GROUP, num_new - 1)
    heads = kv_head * GROUP + offs_m % GROUP
    positions = num_before + tokens
    q_mask = live[:, None] & (offs_d < HEAD_DIM)[None, :]
    q_rows = (chunk_start + tokens).to(tl.int64) * stride_q_token + heads * stride_q_head
    queries = tl.load(q + q_rows[:, None] + offs_d[None, :], mask=q_mask, other=0.0)

    m_i = tl.full((ROWS,), NO_SCORE, tl.float32)
    l_i = tl.zeros((ROWS,), tl.float32)
    acc = tl.zeros((ROWS, BLOCK_D), tl.float32)
    table = block_tables + sequence.to(tl.int64) * stride_table
    k_head = k_pages + kv_head * stride_head
    v_head = v_pages + kv_head * stride_head

    first_position = num_before + first_row // GROUP
    last_position = num_before + tl.minimum((first_row + ROWS - 1) // GROUP, num_new - 1)
    end = tl.cdiv(last_position + 1, KEYS)
    begin = tl.maximum(first_position - window + 1, 0) // KEYS
    # Every row sees all of the key tiles [whole, cut); window and diagonal cut through the rest.
    whole = tl.cdiv(tl.maximum(last_position - window + 1, 0), KEYS)
    cut = tl.maximum((first_position + 1) // KEYS, whole)
    whole = tl.minimum(whole, end)
    cut = tl.minimum(cut, end)
    for index in range(whole, cut):
        m_i, l_i, acc = _attend_keys(
            m_i,
            l_i,
            acc,
            queries,
            k_head,
            v_head,
            table,
            index * KEYS,
            positions,
            context,
            scale_log2,
            window,
            stride_page,
            stride_token,
            False,
            HEAD_DIM,
            PAGE,
            KEYS,
            BLOCK_D,
        )
    # The softmax does not care for order: the tiles before `whole` and from `cut` on in one loop.
    for index in range(begin, end - cut + whole):
        m_i, l_i, acc = _attend_keys(
            m_i,
            l_i,
            acc,
            queries,
            k_head,
            v_head,
            table,
            tl.where(index < whole, index, index - whole + cut) * KEYS,
            positions,
            context,
            scale_log2,
            window,
            stride_page,
            stride_token,
            True,
            HEAD_DIM,
            PAGE,
            KEYS,
            BLOCK_D,
        )

    result = acc / l_i[:, None]
    out_rows = ((chunk_start + tokens).to(tl.int64) * num_heads + heads) * HEAD_DIM
    out_ptrs = out + out_rows[:, None] + offs_d[None, :]
    tl.store(out_ptrs, result.to(out.dtype.element_ty), mask=q_mask)


def paged_prefill(
    q: Tensor,
    pool: LayerPool,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    tile_map: Tensor,
    out: Tensor,
    *,
    tiles: PrefillTiles,
    scale: float,
    window: int | None = None,
) -> Tensor:
    """Writes causal attention of each mapped sequence into its rows of `out`; returns `out`.

    q (T, H, D), may be strided in T and H; out (T, H * D) contiguous; rows of sequences that
    the `tile_map` (num_tiles, 2) int32 of `map_tiles` leaves out stay. The chunk's own K, V must be
    in the pool. Never waits for the device and allocates nothing. Raises: ValueError or TypeError.
    """
    check_attention(q, pool, out)
    check_tables(block_tables, query_starts, context_lens)
    check_tile_map(tile_map)
    if scale <= 0:
        raise ValueError(f"scale must be positive, not {scale}")
    num_heads, head_dim = q.shape[1:]
    num_kv_heads = pool.k.shape[1]
    launch(
        _prefill_kernel,
        (tile_map.shape[0], num_kv_heads),
        q,
        *pool,
        block_tables,
        query_starts,
        context_lens,
        tile_map,
        out,
        scale * math.log2(math.e),
        window or NO_WINDOW,
        *q.stride()[:2],
        *pool.k.stride()[:3],
        block_tables.stride(0),
        GROUP=num_heads // num_kv_heads,
        HEAD_DIM=head_dim,
        PAGE=pool.k.shape[2],
        ROWS=tiles.rows,
        KEYS=tiles.keys,
        BLOCK_D=max(16, power_of_two(head_dim)),
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    return out


def reference(
    q: Tensor,
    pool: LayerPool,
    block_tables: Tensor,
    query_lens: Sequence[int],
    context_lens: Sequence[int],
    *,
    scale: float,
    window: int | None = None,
) -> Tensor:
    """The same in torch and fp32 for all sequences, those with one token too; (T, H * D) fp32."""
    group = q.shape[1] // pool.k.shape[1]
    chunks = []
    queries = q.float().split(list(query_lens))
    for sequence, (chunk, context) in enumerate(zip(queries, context_lens, strict=True)):
        pages = block_tables[sequence].long()
        k, v = (x[pages].transpose(0, 1).flatten(1, 2)[:, :context].float() for x in pool)
        k, v = (x.repeat_interleave(group, 0) for x in (k, v))
        tokens = torch.arange(context, device=q.device)
        ahead = tokens[context - len(chunk) :, None] - tokens
        hidden = (ahead < 0) | (ahead >= (window or NO_WINDOW))
        scores = chunk.transpose(0, 1) @ k.transpose(1, 2) * scale
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        chunks.append((weights @ v).transpose(0, 1).flatten(1))
    return torch.cat(chunks)
