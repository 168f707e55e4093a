"""Prefill attention over packed pages against fp64, and a prompt in chunks against a whole one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import TOLERANCES
from packed_case import FORMATS, ON_GPU, PackedCase, make_packed

from engine.batch import Batch, Packing
from engine.kernels.packed_attention import attend_chunk, long_chunks
from engine.kernels.packed_prefill import choose_tiles, cuts_of, packed_prefill, reference
from engine.kernels.paged_prefill import PrefillTiles
from engine.kernels.tile_map import count_tiles, map_tiles

MOST_ERROR = 2e-3
SMALL = PrefillTiles(rows=16, keys=16, num_warps=4, num_stages=2)
WIDE = PrefillTiles(rows=64, keys=16, num_warps=4, num_stages=2)


def prefill(case: PackedCase, tiles: PrefillTiles, window: int | None = None) -> torch.Tensor:
    group = case.q.shape[1] // case.pool.records.shape[1]
    # One more than it takes: a graph has room for more.
    num_tiles = count_tiles(case.query_lens, group, tiles.rows) + 1
    tile_map = map_tiles(case.query_starts, num_tiles, group, tiles.rows)
    return packed_prefill(
        case.q,
        case.pool,
        *case.tables,
        tile_map,
        case.poisoned_output(),
        tiles=tiles,
        scale=case.scale,
        window=window,
    )


def expected(case: PackedCase, window: int | None = None) -> torch.Tensor:
    lens = case.query_lens, case.context_lens
    return reference(
        case.q, case.pool, case.block_tables, *lens, case.slots, scale=case.scale, window=window
    )


def expect_near(got: torch.Tensor, want: torch.Tensor) -> None:
    slack = want.abs() * torch.finfo(got.dtype).eps
    assert ((got.double() - want).abs() <= MOST_ERROR + slack).all()


@pytest.mark.parametrize("name", FORMATS)
def test_prefill_is_attention_over_what_the_codes_stand_for(device: Any, name: str) -> None:
    case = make_packed([37], [53], FORMATS[name], heads=(1, 1, 64), device=device)
    expect_near(prefill(case, WIDE), expected(case))


def test_a_mixed_batch(device: Any) -> None:
    """Chunks that start inside a page, a whole prompt, single tokens, no sink; 3 rows a token."""
    form, sizes = FORMATS["k8v4"], {"heads": (3, 1, 64), "num_sinks": 0, "dtype": torch.float32}
    case = make_packed([1, 9, 18, 1], [20, 40, 18, 5], form, device=device, **sizes)
    got, want = prefill(case, SMALL), expected(case)
    assert got[[0, 28]].isnan().all()
    expect_near(got[1:28], want[1:28])


@pytest.mark.parametrize("window", [1, 18, 40])
def test_window_and_diagonal(device: Any, window: int) -> None:
    case = make_packed([35], [53], FORMATS["int4"], heads=(1, 1, 64), device=device)
    expect_near(prefill(case, WIDE, window), expected(case, window))


@pytest.mark.parametrize(("name", "window"), [("int4", None), ("int8", 20)])
def test_a_prompt_in_chunks_is_the_same_as_whole(
    device: Any, name: str, window: int | None
) -> None:
    def chunk(new: int, context: int) -> torch.Tensor:
        case = make_packed([new], [context], FORMATS[name], heads=(1, 1, 64), device=device)
        return prefill(case, SMALL, window)

    whole, chunks = chunk(53, 53), torch.cat([chunk(21, 21), chunk(32, 53)])
    if device.type == "cuda":
        assert torch.equal(chunks, whole)
    # The interpreter's products round by where a row lies in its tile, in one element of 3,000.
    assert ((chunks - whole).abs() <= whole.abs() * torch.finfo(whole.dtype).eps + 1e-5).all()
    assert (chunks != whole).sum() < whole.numel() / 100


@pytest.mark.parametrize(
    ("name", "num_sinks", "window"), [("int4", 1, None), ("k4v2", 0, 40), ("V alone", 1, None)]
)
def test_a_long_chunk_sees_its_pages_turned_back(
    device: Any, name: str, num_sinks: int, window: int | None
) -> None:
    """The second of two sequences; the first one's rows stay."""
    sizes = {"heads": (1, 1, 64), "num_sinks": num_sinks}
    case = make_packed([3, 130], [9, 150], FORMATS[name], device=device, **sizes)
    tables, starts, context_lens, slots = case.tables
    batch = Batch(
        token_ids=slots,
        positions=slots,
        slots=slots,
        block_tables=tables,
        query_starts=starts,
        context_lens_device=context_lens,
        logit_rows=slots,
        query_lens=case.query_lens,
        context_lens=case.context_lens,
    )
    packing = Packing(16, case.pool.records.shape[0], None)
    assert long_chunks(batch, packing, 1, torch.float32) == []
    (chunk,) = long_chunks(batch, packing, 1, torch.float16)
    out = case.poisoned_output()
    attend_chunk(case.q, case.pool, chunk, slots, out, case.scale, window)
    assert out[:3].isnan().all()
    expect_near(out[3:], expected(case, window)[3:])


def test_tiles_are_short_while_long_ones_would_idle_the_device() -> None:
    few = choose_tiles([64], 7, 4, 132, torch.bfloat16, 64)
    many = choose_tiles([2048], 7, 4, 132, torch.bfloat16, 64)
    assert (few, many) == cuts_of(torch.bfloat16, 64)


def test_wrong_arguments_are_named(device: Any) -> None:
    case = make_packed([4], [5], FORMATS["int4"], device=device)
    with pytest.raises(ValueError, match="24 keys do not divide"):
        pages_of_32 = make_packed([2], [2], FORMATS["int4"], block_size=32, device=device)
        prefill(pages_of_32, WIDE._replace(keys=24))
    out = case.poisoned_output()
    tile_map = torch.zeros(1, 2, dtype=torch.int64, device=device)
    with pytest.raises(TypeError, match="tile_map must be int32"):
        packed_prefill(case.q, case.pool, *case.tables, tile_map, out, tiles=WIDE, scale=1.0)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "block_size", "heads", "dtype"), ON_GPU)
def test_prefill_on_the_gpu(
    device: Any, name: str, block_size: int, heads: Any, dtype: torch.dtype
) -> None:
    query_lens, context_lens = [2, 64, 100, 1, 200], [2, 64, 300, 50, 333]
    sizes = {"heads": heads, "block_size": block_size, "dtype": dtype}
    case = make_packed(query_lens, context_lens, FORMATS[name], device=device, **sizes)
    rows = torch.tensor([new > 1 for new in query_lens for _ in range(new)])
    for tiles in cuts_of(dtype, block_size):
        for window in (None, 1, 100):
            got, want = prefill(case, tiles, window)[rows], expected(case, window)[rows]
            error = (got.double() - want).norm() / want.norm()
            assert float(error) <= TOLERANCES[dtype]
