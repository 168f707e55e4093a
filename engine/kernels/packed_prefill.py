"""Attention of a chunk of new tokens over packed pages: a cached prefix's and its own.

As paged_prefill.py, a page a step. A token sees the page that it lies in as wide rows and every
page before as packed ones, those of its own chunk too, so that no result depends on how a prompt is
cut. For the same reason pages are walked in their order, whichever of them a tile's rows see.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div
from engine.kernels.launching import launch
from engine.kernels.packed_pool import TRITON_DTYPES, check_packed_attention, sides_of
from engine.kernels.packed_rows import (
    add_page,
    add_wide,
    channels_of,
    load_pieces,
    nothing_seen,
    packed_scores,
    piece_of_sums,
    query_sums,
)
from engine.kernels.paged import NO_WINDOW, check_tables
from engine.kernels.paged_prefill import PrefillCuts, PrefillTiles
from engine.kernels.tile_map import check_tile_map
from engine.kv.packing import unpack

if TYPE_CHECKING:
    from torch import Tensor

    from engine.kernels.packed_pool import PackedPool


def cuts_of(dtype: torch.dtype, block_size: int) -> PrefillCuts:
    """The two that the engine uses, their `keys` those of a wide page read at once.

    A packed page is one tile of keys, whatever its size.
    """
    keys = min(block_size, 64)
    if dtype.itemsize > 2:
        tiles = PrefillTiles(rows=32, keys=16, num_warps=4, num_stages=2)
        return PrefillCuts(tiles, tiles)
    # Pages that are not packed lie in shared memory whole, K and V of each stage.
    stages = 3 if block_size <= 64 else 2
    return PrefillCuts(
        short=PrefillTiles(rows=64, keys=keys, num_warps=4, num_stages=stages),
        long=PrefillTiles(rows=128, keys=keys, num_warps=8, num_stages=stages),
    )


def choose_tiles(
    query_lens: Sequence[int],
    group: int,
    num_kv_heads: int,
    num_sms: int,
    dtype: torch.dtype,
    block_size: int,
) -> PrefillTiles:
    """Long ones, unless they would leave multiprocessors without work."""
    short, long = cuts_of(dtype, block_size)
    num_tiles = sum(ceil_div(new * group, long.rows) for new in query_lens if new > 1)
    return short if num_tiles * num_kv_heads < num_sms else long


@triton.jit
def _attend_page(
    largest,
    total,
    accs,
    rests,
    unit,
    queries,
    sums,
    record,
    page,
    positions,
    factor,
    window,
    MASKED: tl.constexpr,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    OPERAND: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """One step of the online softmax over a packed page; a row that lies in it does not see it."""
    scores = packed_scores(queries, sums, record, factor, KEY, OPERAND, DTYPE)
    if MASKED:
        tokens = page * KEY.page + tl.arange(0, KEY.page)
        is_before = positions // KEY.page > page
        seen = is_before[:, None] & (positions[:, None] - tokens[None, :] < window)
        scores = tl.where(seen, scores, -float("inf"))
    return add_page(
        largest,
        total,
        accs,
        rests,
        unit,
        scores,
        record,
        VALUE,
        OPERAND,
        DTYPE,
    )


@triton.jit(do_not_specialize=["num_packed", "window", "stride_table"])
def _packed_prefill_kernel(
    q,
    records,
    k_wide,
    v_wide,
    block_tables,
    query_starts,
    context_lens,
    slots,
    tile_map,
    out,
    num_packed,
    factor,
    window,
    stride_q_token,
    stride_q_head,
    stride_page,
    stride_head,
    stride_token,
    stride_table,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    RECORD_BYTES: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    WINDOWED: tl.constexpr,
    STORED: tl.constexpr,
    STAGES: tl.constexpr,
):
    PAGE: tl.constexpr = KEY.page
    HEAD_DIM: tl.constexpr = KEY.head_dim
    DTYPE: tl.constexpr = q.dtype.element_ty
    OPERAND: tl.constexpr = tl.float32 if DTYPE == tl.float32 else tl.float16
    NUM_PIECES: tl.constexpr = VALUE.num_pieces
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    num_kv_heads = tl.num_programs(1)
    sequence = tl.load(tile_map + 2 * tile)
    if sequence < 0:
        return
    first_row = tl.load(tile_map + 2 * tile + 1)
    chunk_start = tl.load(query_starts + sequence)
    num_new = tl.load(query_starts + sequence + 1) - chunk_start
    num_before = tl.load(context_lens + sequence) - num_new

    offs_m = first_row + tl.arange(0, ROWS)
    live = offs_m // GROUP < num_new
    # Rows past the chunk's end stand in for its last token, so that every row sees a key.
    tokens = tl.minimum(offs_m // GROUP, num_new - 1)
    heads = kv_head * GROUP + offs_m % GROUP
    positions = num_before + tokens
    q_rows = (chunk_start + tokens).to(tl.int64) * stride_q_token + heads * stride_q_head
    queries = load_pieces(q + q_rows, live, KEY)
    sums = query_sums(queries, factor, KEY)

    largest, total, accs, rests, unit = nothing_seen(ROWS, VALUE)
    table = block_tables + sequence.to(tl.int64) * stride_table
    records += kv_head * RECORD_BYTES

    first_position = num_before + first_row // GROUP
    last_position = num_before + tl.minimum((first_row + ROWS - 1) // GROUP, num_new - 1)
    own = first_position // PAGE
    last_own = last_position // PAGE
    first = tl.load(table)
    begin = tl.maximum(first_position - window + 1, 0) // PAGE
    has_sink = (begin == 0) & (last_own > 0) & (first >= num_packed)
    begin += has_sink.to(tl.int32)
    # Without a window, every row sees all pages before the first row's own.
    whole = begin
    if not WINDOWED:
        whole = tl.maximum(own, begin)
        for page in tl.range(begin, whole, num_stages=STAGES):
            place = tl.load(table + page).to(tl.int64)
            largest, total, accs, rests, unit = _attend_page(
                largest,
                total,
                accs,
                rests,
                unit,
                queries,
                sums,
                records + place * num_kv_heads * RECORD_BYTES,
                page,
                positions,
                factor,
                window,
                False,
                KEY,
                VALUE,
                OPERAND,
                STORED,
            )
    for page in tl.range(whole, last_own, num_stages=STAGES):
        place = tl.load(table + page).to(tl.int64)
        largest, total, accs, rests, unit = _attend_page(
            largest,
            total,
            accs,
            rests,
            unit,
            queries,
            sums,
            records + place * num_kv_heads * RECORD_BYTES,
            page,
            positions,
            factor,
            window,
            True,
            KEY,
            VALUE,
            OPERAND,
            STORED,
        )

    # Tiles 0, ... of the first page, then those of the pages that the rows lie in.
    TILES: tl.constexpr = PAGE // WIDE
    first_tile = tl.where(has_sink, 0, TILES)
    last_tile = TILES + tl.cdiv(last_position + 1 - own * PAGE, WIDE)
    for wide_tile in range(first_tile, last_tile):
        is_sink = wide_tile < TILES
        page = tl.where(is_sink, 0, own + wide_tile // TILES - 1)
        inside = wide_tile % TILES * WIDE + tl.arange(0, WIDE)
        keys = page * PAGE + inside
        written = keys <= last_position
        # The slot of the first of the tile's tokens that lie in the page: all of them share it.
        token = tl.maximum(page * PAGE - num_before, first_position - num_before)
        slot = tl.load(slots + chunk_start + token, mask=is_sink == 0, other=0).to(tl.int64)
        wide_page = tl.where(is_sink, first.to(tl.int64) - num_packed, slot // PAGE)
        rows = wide_page * stride_page + kv_head * stride_head + inside * stride_token
        ahead = positions[:, None] - keys[None, :]
        lies_here = tl.where(is_sink, positions >= PAGE, positions // PAGE == page)
        largest, total, accs, rests, unit = add_wide(
            largest,
            total,
            accs,
            rests,
            unit,
            queries,
            k_wide + rows,
            v_wide + rows,
            written,
            lies_here[:, None] & (ahead >= 0) & (ahead < window),
            factor,
            KEY,
            VALUE,
        )

    out_rows = ((chunk_start + tokens).to(tl.int64) * num_kv_heads * GROUP + heads) * HEAD_DIM
    for piece in tl.static_range(NUM_PIECES):
        channels, inside = channels_of(VALUE, VALUE.starts[piece])
        result = piece_of_sums(accs, rests, unit, piece, VALUE) / total
        out_ptrs = out + out_rows[:, None] + channels[None, :]
        tl.store(out_ptrs, result.to(out.dtype.element_ty), mask=live[:, None] & inside[None, :])


def packed_prefill(
    q: Tensor,
    pool: PackedPool,
    block_tables: Tensor,
    query_starts: Tensor,
    context_lens: Tensor,
    slots: Tensor,
    tile_map: Tensor,
    out: Tensor,
    *,
    tiles: PrefillTiles,
    scale: float,
    window: int | None = None,
    stored: torch.dtype | None = None,
) -> Tensor:
    """Writes causal attention of each mapped sequence into its rows of `out`; returns `out`.

    q (T, H, D), may be strided in T and H; out (T, H * D) contiguous; rows of sequences that
    the `tile_map` (num_tiles, 2) int32 of `map_tiles` leaves out stay. The chunk's K, V must be in
    the wide pages of `slots` (T,), its full pages packed too. A side of records that is not packed
    is of dtype `stored`, q's by default. Never waits for the device. Raises: ValueError, TypeError.
    """
    records, wide, layout = pool
    check_packed_attention(q, pool, slots, out)
    check_tables(block_tables, query_starts, context_lens)
    check_tile_map(tile_map)
    if layout.block_size % min(tiles.keys, layout.block_size):
        raise ValueError(f"{tiles.keys} keys do not divide pages of {layout.block_size} tokens")
    num_kv_heads, (key, value) = records.shape[1], sides_of(layout)
    launch(
        _packed_prefill_kernel,
        (tile_map.shape[0], num_kv_heads),
        q,
        records,
        *wide,
        block_tables,
        query_starts,
        context_lens,
        slots,
        tile_map,
        out,
        records.shape[0],
        scale * math.log2(math.e),
        window or NO_WINDOW,
        *q.stride()[:2],
        *wide.k.stride()[:3],
        block_tables.stride(0),
        KEY=key,
        VALUE=value,
        RECORD_BYTES=layout.num_bytes,
        GROUP=q.shape[1] // num_kv_heads,
        ROWS=tiles.rows,
        WIDE=min(tiles.keys, layout.block_size),
        WINDOWED=window is not None,
        STORED=TRITON_DTYPES[stored or q.dtype],
        STAGES=tiles.num_stages,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    return out


def reference(
    q: Tensor,
    pool: PackedPool,
    block_tables: Tensor,
    query_lens: Sequence[int],
    context_lens: Sequence[int],
    slots: Tensor,
    *,
    scale: float,
    window: int | None = None,
) -> Tensor:
    """The same in torch and fp64 for all sequences, those with one token too; (T, H * D)."""
    size, num_packed = pool.layout.block_size, pool.records.shape[0]
    rows: list[Tensor] = []
    pages = (slots // size).tolist()
    for table, new, context in zip(block_tables.tolist(), query_lens, context_lens, strict=True):
        for position in range(context - new, context):
            own, page = position // size, pages[len(rows)]
            seen = [_page(pool, place, q.dtype) for place in table[:own]]
            seen.append(_page(pool, num_packed + page, q.dtype))
            k, v = (torch.cat(parts, 1)[:, : position + 1] for parts in zip(*seen, strict=True))
            first = 0 if window is None else max(0, position + 1 - window)
            query = q[len(rows)].double().unflatten(0, (k.shape[0], -1))
            weights = (query @ k[:, first:].transpose(1, 2) * scale).softmax(-1)
            rows.append((weights @ v[:, first:]).flatten())
    return torch.stack(rows)


def _page(pool: PackedPool, place: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """K and V (H_kv, block_size, D) in fp64 of a page as a block table names it."""
    num_packed = pool.records.shape[0]
    if place >= num_packed:
        wide = place - num_packed
        return pool.wide.k[wide].double(), pool.wide.v[wide].double()
    k, v = unpack(pool.records[place], pool.layout, dtype)
    return k.double(), v.double()
