"""Attention over packed pages as the backend plans and runs it: what it is for pages that are not
packed, with kernels of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engine.kernels import packed_decode, packed_prefill, splits
from engine.kernels.tile_map import map_tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engine.batch import Packing
    from engine.kernels.backend import AttentionPlan
    from engine.kernels.packed_pool import PackedPool
    from engine.kernels.paged_prefill import PrefillTiles
    from engine.kernels.splits import DecodeWorkspace


def choose_splits(num_rows: int, context: int, num_sms: int, dtype: torch.dtype) -> int:
    """Of `num_rows` heads of sequences that decode."""
    min_split = packed_decode.choose_tiles(dtype).min_split
    return splits.choose_splits(
        num_rows, context, num_sms, min_split, packed_decode.PROGRAMS_PER_SM
    )


def choose_tiles(
    query_lens: Sequence[int],
    group: int,
    num_kv_heads: int,
    num_sms: int,
    dtype: torch.dtype,
    packing: Packing,
) -> PrefillTiles:
    """Of sequences with more than one token."""
    return packed_prefill.choose_tiles(
        query_lens, group, num_kv_heads, num_sms, dtype, packing.block_size
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
