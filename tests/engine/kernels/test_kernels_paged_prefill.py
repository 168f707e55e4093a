"""Prefill attention against its reference: odd chunks over odd prefixes, windows, mixed batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kernels.paged_prefill import (
    PrefillTiles,
    choose_tiles,
    cuts_of,
    paged_prefill,
    reference,
)
from engine.kernels.tile_map import count_tiles, map_tiles

SMALL = PrefillTiles(rows=16, keys=16, num_warps=4, num_stages=2)
WIDE = PrefillTiles(rows=64, keys=64, num_warps=4, num_stages=3)


def prefill(case: Any, tiles: PrefillTiles, window: int | None = None) -> torch.Tensor:
    group = case.q.shape[1] // case.pool.k.shape[1]
    # Two more than it takes: a graph has room for more.
    num_tiles = count_tiles(case.batch.query_lens, group, tiles.rows) + 2
    tile_map = map_tiles(case.batch.query_starts, num_tiles, group, tiles.rows)
    out = case.poisoned_output()
    scale = case.q.shape[2] ** -0.5
    return paged_prefill(
        case.q, case.pool, *case.tables, tile_map, out, tiles=tiles, scale=scale, window=window
    )


def expected(case: Any, window: int | None = None) -> torch.Tensor:
    batch = case.batch
    return reference(
        case.q,
        case.pool,
        batch.block_tables,
        batch.query_lens,
        batch.context_lens,
        scale=case.q.shape[2] ** -0.5,
        window=window,
    )


@pytest.mark.parametrize(
    ("heads", "block_size", "dtype"),
    [
        ((9, 3, 64), 16, torch.float16),
        ((7, 1, 128), 8, torch.float32),
        ((2, 2, 80), 32, torch.float16),
        ((4, 2, 96), 64, torch.float32),
    ],
)
def test_prefill_equals_reference(
    paged: Any, expect_close: Any, heads: Any, block_size: int, dtype: torch.dtype
) -> None:
    case = paged([2, 17, 40], [2, 90, 40], heads=heads, block_size=block_size, dtype=dtype)
    expect_close(prefill(case, WIDE), expected(case), dtype)


@pytest.mark.parametrize("window", [1, 5, 16, 21, 60, 1000])
def test_window_and_diagonal(paged: Any, expect_close: Any, window: int) -> None:
    case = paged([2, 33, 20], [2, 33, 77], heads=(3, 1, 64), block_size=8, dtype=torch.float32)
    expect_close(prefill(case, SMALL, window), expected(case, window))


def test_small_tiles_walk_many_keys(paged: Any, expect_close: Any) -> None:
    case = paged([5, 2, 31], [70, 33, 64], heads=(6, 2, 64), dtype=torch.float32)
    expect_close(prefill(case, SMALL), expected(case))


def test_single_tokens_are_left_alone(paged: Any, expect_close: Any) -> None:
    case = paged([1, 9, 1], [20, 30, 40], heads=(4, 2, 64), dtype=torch.float32)
    got = prefill(case, WIDE)
    assert got[[0, 10]].isnan().all()
    expect_close(got[1:10], expected(case)[1:10])


def test_a_window_hides_what_lies_before_it_entirely(paged: Any) -> None:
    """Poison outside the window must not reach the result: not even as 0 * NaN."""
    window, case = 6, paged([4], [40], heads=(2, 1, 64), block_size=8, dtype=torch.float32)
    want = prefill(case, SMALL, window)
    for page in case.batch.block_tables[0, :3].tolist():
        case.pool.k[page] = 1e4
        case.pool.v[page] = 1e4
    assert torch.equal(prefill(case, SMALL, window), want)


def test_tiles_are_short_while_long_ones_would_idle_the_device() -> None:
    few = choose_tiles([64], 7, 4, 132, torch.bfloat16)
    many = choose_tiles([2048], 7, 4, 132, torch.bfloat16)
    assert (few, many) == cuts_of(torch.bfloat16)


def test_wrong_arguments_are_named(paged: Any) -> None:
    case = paged([4], [5], heads=(4, 2, 64), dtype=torch.float32)
    out = case.poisoned_output()
    tile_map = torch.zeros(1, 2, dtype=torch.int32, device=case.q.device)
    with pytest.raises(TypeError, match="tile_map must be int32"):
        paged_prefill(case.q, case.pool, *case.tables, tile_map.long(), out, tiles=WIDE, scale=1.0)
    with pytest.raises(ValueError, match="scale must be positive"):
        paged_prefill(case.q, case.pool, *case.tables, tile_map, out, tiles=WIDE, scale=-1.0)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "block_size", "dtype"),
    [
        *(((28, 4, 128), block_size, torch.bfloat16) for block_size in (8, 16, 64)),
        ((9, 3, 64), 16, torch.bfloat16),
        ((16, 1, 64), 32, torch.bfloat16),
        ((4, 4, 96), 16, torch.bfloat16),
        ((10, 2, 80), 8, torch.bfloat16),
        ((32, 8, 128), 16, torch.float16),
    ],
)
def test_prefill_on_the_gpu(
    paged: Any, expect_close: Any, heads: Any, block_size: int, dtype: torch.dtype
) -> None:
    query_lens = [2, 3, 16, 17, 63, 65, 127, 200, 301, 1, 33]
    context_lens = [2, 99, 16, 500, 63, 129, 1000, 200, 777, 50, 1025]
    case = paged(query_lens, context_lens, heads=heads, block_size=block_size, dtype=dtype)
    rows = torch.tensor([new > 1 for new in query_lens for _ in range(new)])
    for tiles in cuts_of(dtype):
        for window in (None, 1, 100, 513):
            got, want = prefill(case, tiles, window), expected(case, window)
            expect_close(got[rows], want[rows], dtype)
