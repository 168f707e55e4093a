"""Attention over packed pages as the backend plans and runs it: what it is for pages that are not
packed, with kernels of its own.

Of a long chunk the pages are turned back first, into memory that is let go after the layer: each
tile of its rows would unpack all of them again. They are then fp16, where the scales and codes that
stand for them are exact: K and V are off by 2**-12 of themselves, a sixteenth of what bf16 costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from engine.kernels import packed_decode, packed_prefill, splits
from engine.kernels.blocks import ceil_div
from engine.kernels.packed_gather import gather
from engine.kernels.packed_pool import PackedPool
from engine.kernels.tile_map import map_tiles
from engine.kv.formats import BF16, RecordLayout

if TYPE_CHECKING:
    from torch import Tensor

    from engine.batch import Batch, Packing
    from engine.kernels.backend import AttentionPlan
    from engine.kernels.splits import DecodeWorkspace


# Of a chunk whose pages are turned back.
MIN_TOKENS: Final = 128


class LongChunk(NamedTuple):
    """A sequence whose pages are turned back, and the arguments of a prefill of it alone."""

    sequence: int
    pages: Tensor  # (P,) int32, of its block table
    table: Tensor  # (1, P) int32, of the same pages once they are turned back
    query_starts: Tensor  # (2,) int32
    context_lens: Tensor  # (1,) int32
    tile_map: Tensor


def long_chunks(batch: Batch, packing: Packing, group: int, dtype: torch.dtype) -> list[LongChunk]:
    """Those of a batch; none if its lengths are not on the host, and none in fp32."""
    if dtype.itemsize > 2:
        return []
    rows = packed_prefill.cuts_of(dtype, packing.block_size).long.rows
    return [
        _long_chunk(batch, packing, group, place, rows)
        for place, new in enumerate(batch.query_lens)
        if new >= MIN_TOKENS
    ]


def _long_chunk(batch: Batch, packing: Packing, group: int, place: int, rows: int) -> LongChunk:
    new, context = batch.query_lens[place], batch.context_lens[place]
    pages = batch.block_tables[place, : ceil_div(context, packing.block_size)]
    table = torch.arange(len(pages), dtype=torch.int32, device=pages.device)
    # A wide first page keeps its place among the wide ones, which follow on as many packed pages.
    is_wide = pages[:1] >= packing.num_packed
    table[:1] = torch.where(is_wide, pages[:1] - packing.num_packed + len(pages), 0)
    starts = batch.query_starts[place : place + 2]
    tile_map = map_tiles(starts, ceil_div(new * group, rows), group, rows)
    lens = batch.context_lens_device[place : place + 1]
    return LongChunk(place, pages, table[None], starts, lens, tile_map)


def choose_splits(num_rows: int, context: int, num_sms: int, dtype: torch.dtype) -> int:
    """Of `num_rows` heads of sequences that decode."""
    min_split = packed_decode.choose_tiles(dtype).min_split
    return splits.choose_splits(
        num_rows, context, num_sms, min_split, packed_decode.PROGRAMS_PER_SM
    )


def attend(
    q: Tensor,
    pool: PackedPool,
    plan: AttentionPlan,
    out: Tensor,
    scale: float,
    window: int | None,
    workspace: DecodeWorkspace,
) -> None:
    """Writes the attention of all rows into `out`."""
    batch = plan.batch
    if plan.decode_tables is not None:
        packed_decode.packed_decode(
            q,
            pool,
            *plan.decode_tables,
            batch.slots,
            out,
            scale=scale,
            window=window,
            num_splits=plan.num_splits,
            workspace=workspace,
        )
    for chunk in plan.long_chunks:
        attend_chunk(q, pool, chunk, batch.slots, out, scale, window)
    if plan.tile_map is not None and plan.prefill_tiles is not None:
        packed_prefill.packed_prefill(
            q,
            pool,
            batch.block_tables,
            batch.query_starts,
            batch.context_lens_device,
            batch.slots,
            plan.tile_map,
            out,
            tiles=plan.prefill_tiles,
            scale=scale,
            window=window,
        )


def attend_chunk(
    q: Tensor,
    pool: PackedPool,
    chunk: LongChunk,
    slots: Tensor,
    out: Tensor,
    scale: float,
    window: int | None,
) -> None:
    """Writes the attention of a chunk's rows into those of `out`."""
    layout, form = pool.layout, pool.layout.format
    # What fp16 holds is known of codes only.
    is_packed = form.key.is_packed and form.value.is_packed
    stored = torch.float16 if is_packed else q.dtype
    records = gather(pool, chunk.pages, stored).view(torch.uint8)
    turned_back = RecordLayout(BF16, layout.block_size, layout.head_dim, layout.dtype_bytes)
    packed_prefill.packed_prefill(
        q,
        PackedPool(records, pool.wide, turned_back),
        chunk.table,
        chunk.query_starts,
        chunk.context_lens,
        slots,
        chunk.tile_map,
        out,
        tiles=packed_prefill.cuts_of(q.dtype, layout.block_size).long,
        scale=scale,
        window=window,
        stored=stored,
    )


def compile_all(
    q: Tensor, pool: PackedPool, window: int | None, workspace: DecodeWorkspace
) -> None:
    """Runs each cut of the kernels on a token of wide page 0, and drops what comes out."""
    device = q.device
    zeros = torch.zeros((1, 1), dtype=torch.int32, device=device)
    lens = torch.ones(1, dtype=torch.int32, device=device)
    starts = torch.tensor([0, 1], dtype=torch.int32, device=device)
    slots = torch.zeros(1, dtype=torch.int64, device=device)
    tables = (zeros, starts, lens, slots)
    out = torch.empty((1, q.shape[1] * q.shape[2]), dtype=q.dtype, device=device)
    for num_splits in (1, 2):
        packed_decode.packed_decode(
            q,
            pool,
            *tables,
            out,
            scale=1.0,
            window=window,
            num_splits=num_splits,
            workspace=workspace,
        )
    group = q.shape[1] // pool.records.shape[1]
    for tiles in packed_prefill.cuts_of(q.dtype, pool.layout.block_size):
        tile_map = map_tiles(starts, 1, group, tiles.rows)
        packed_prefill.packed_prefill(
            q, pool, *tables, tile_map, out, tiles=tiles, scale=1.0, window=window
        )
    if q.dtype.itemsize == 2:
        chunk = LongChunk(0, zeros[0], zeros, starts, lens, tile_map)
        attend_chunk(q, pool, chunk, slots, out, 1.0, window)
