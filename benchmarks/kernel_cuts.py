"""Other cuts of the attention kernels than the engine takes: what to choose its defaults by."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from kernel_bench import Bench, Row, Shape

from engine.kernels.paged_decode import DecodeTiles, paged_decode
from engine.kernels.paged_prefill import PrefillTiles, paged_prefill
from engine.kernels.splits import allocate_workspace, choose_splits
from engine.kernels.tile_map import count_tiles, map_tiles

# Tile, warps, stages.
DECODE_CUTS = [(32, 4, 5), (64, 4, 3), (64, 4, 5), (64, 8, 5), (128, 4, 3), (128, 8, 5)]
DECODE_LEASTS = (128, 256, 512)
DECODE_CASES = [(1, 1024), (1, 16000), (8, 1024), (8, 16000), (32, 4096), (128, 1024)]
PREFILL_CUTS = [
    PrefillTiles(rows, keys, num_warps, num_stages)
    for rows, keys, num_warps, num_stages in (
        (64, 32, 4, 3),
        (64, 64, 4, 3),
        (64, 64, 4, 5),
        (128, 32, 8, 3),
        (128, 64, 8, 3),
        (128, 64, 8, 5),
        (128, 128, 8, 3),
    )
]
PREFILL_CASES = [(512, 0), (2048, 0), (2048, 6144)]


def decode_cuts(bench: Bench, shape: Shape) -> Iterator[Row]:
    for size, context in DECODE_CASES:
        for tile, num_warps, num_stages in DECODE_CUTS:
            for least in DECODE_LEASTS:
                tiles = DecodeTiles(tile, least, num_warps, num_stages)
                yield _decode(bench, shape, size, context, tiles)


def _decode(bench: Bench, shape: Shape, size: int, context: int, tiles: DecodeTiles) -> Row:
    batch, num_pages = bench.batch([1] * size, [context] * size)
    q = bench.random(size, shape.num_heads, shape.head_dim)
    splits = choose_splits(size * shape.num_kv_heads, context, bench.num_sms, tiles.min_split)
    num_programs = size * shape.num_kv_heads * splits
    group = shape.num_heads // shape.num_kv_heads
    workspace = allocate_workspace(num_programs, group, shape.head_dim, q.device)
    calls = [
        partial(
            paged_decode,
            q,
            pool,
            batch.block_tables,
            batch.query_starts,
            batch.context_lens_device,
            torch.empty_like(q).flatten(1),
            scale=shape.head_dim**-0.5,
            num_splits=splits,
            workspace=workspace,
            tiles=tiles,
        )
        for pool in bench.pools(shape, num_pages)
    ]
    case = f"{shape.name} {size} x {context} {tuple(tiles)} splits {splits}"
    return bench.moved("decode cut", case, calls, shape.kv_bytes(batch))


def prefill_cuts(bench: Bench, shape: Shape) -> Iterator[Row]:
    for new, prefix in PREFILL_CASES:
        for tiles in PREFILL_CUTS:
            yield _prefill(bench, shape, new, prefix, tiles)


def _prefill(bench: Bench, shape: Shape, new: int, prefix: int, tiles: PrefillTiles) -> Row:
    batch, num_pages = bench.batch([new], [prefix + new])
    group = shape.num_heads // shape.num_kv_heads
    num_tiles = count_tiles(batch.query_lens, group, tiles.rows)
    q = bench.random(new, shape.num_heads, shape.head_dim)
    call = partial(
        paged_prefill,
        q,
        bench.pools(shape, num_pages)[0],
        batch.block_tables,
        batch.query_starts,
        batch.context_lens_device,
        map_tiles(batch.query_starts, num_tiles, group, tiles.rows),
        torch.empty_like(q).flatten(1),
        tiles=tiles,
        scale=shape.head_dim**-0.5,
    )
    case = f"{shape.name} {new} after {prefix} {tuple(tiles)}"
    return bench.computed("prefill cut", case, [call], shape.attention_flops(new, prefix))
