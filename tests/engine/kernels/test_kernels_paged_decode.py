"""Decode attention against its reference: odd contexts, group sizes, splits, windows, dead rows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from engine.kernels.paged_decode import DecodeTiles, choose_tiles, paged_decode, reference
from engine.kernels.splits import (
    MAX_SPLITS,
    MERGED_BY_ONE,
    PROGRAMS_PER_SM,
    allocate_workspace,
    choose_splits,
)

CONTEXTS = [1, 16, 17, 65, 130]
SMALL = DecodeTiles(tile=16, min_split=16, num_warps=4, num_stages=3)


def decode(
    case: Any, num_splits: int, window: int | None = None, tiles: DecodeTiles | None = None
) -> torch.Tensor:
    num_heads, head_dim = case.q.shape[1:]
    num_kv_heads = case.pool.k.shape[1]
    workspace = allocate_workspace(
        case.batch.num_sequences * num_kv_heads * num_splits,
        num_heads // num_kv_heads,
        head_dim,
        case.q.device,
    )
    workspace.parts.fill_(torch.nan)
    workspace.lse.fill_(torch.nan)
    out = case.poisoned_output()
    paged_decode(
        case.q,
        case.pool,
        *case.tables,
        out,
        scale=case.q.shape[2] ** -0.5,
        window=window,
        num_splits=num_splits,
        workspace=workspace,
        tiles=tiles,
    )
    assert not workspace.counters.any(), "the next launch counts from 0"
    return out


def expected(case: Any, window: int | None = None) -> torch.Tensor:
    tables, _, context = case.tables
    scale = case.q.shape[2] ** -0.5
    return reference(case.q, case.pool, tables, context, scale=scale, window=window)


@pytest.mark.parametrize(
    ("heads", "block_size", "dtype"),
    [
        ((9, 3, 64), 16, torch.float16),
        ((14, 2, 128), 8, torch.float32),
        ((4, 4, 80), 32, torch.float16),
        ((16, 1, 96), 16, torch.float32),
        ((5, 1, 64), 64, torch.float16),
    ],
)
def test_decode_equals_reference(
    paged: Any, expect_close: Any, heads: Any, block_size: int, dtype: torch.dtype
) -> None:
    contexts = [1, 17, 64, 130]
    case = paged([1] * 4, contexts, heads=heads, block_size=block_size, dtype=dtype)
    want = expected(case)
    for num_splits in (1, 4):
        expect_close(decode(case, num_splits), want, dtype)


@pytest.mark.parametrize("num_splits", [1, 3, 17])
def test_splits_and_short_contexts(paged: Any, expect_close: Any, num_splits: int) -> None:
    case = paged([1] * len(CONTEXTS), CONTEXTS, heads=(6, 2, 64), dtype=torch.float32)
    expect_close(decode(case, num_splits, tiles=SMALL), expected(case))


@pytest.mark.parametrize("num_splits", [7, 8, 9])
def test_short_contexts_of_few_rows(paged: Any, expect_close: Any, num_splits: int) -> None:
    contexts = [0, 1, 127, 128, 129, 300]
    case = paged([1] * len(contexts), contexts, heads=(3, 1, 64), dtype=torch.float32)
    tiles = SMALL._replace(min_split=64)
    expect_close(decode(case, num_splits, tiles=tiles)[1:], expected(case)[1:])
    assert decode(case, num_splits, tiles=tiles)[0].eq(0).all()


def test_teams_of_splits(paged: Any, expect_close: Any) -> None:
    """One team and no more, one with a lonely second, several, and as many as there may be."""
    contexts = [length * MERGED_BY_ONE for length in (16, 17, 40, 2 * MAX_SPLITS)]
    case = paged([1] * 4, contexts, heads=(3, 1, 64), dtype=torch.float32)
    expect_close(decode(case, MAX_SPLITS, tiles=SMALL), expected(case))


@pytest.mark.parametrize("window", [1, 7, 16, 33, 1000])
@pytest.mark.parametrize("num_splits", [1, 4])
def test_window(paged: Any, expect_close: Any, window: int, num_splits: int) -> None:
    contexts = [1, 16, 40, 113]
    case = paged([1] * 4, contexts, heads=(3, 1, 64), block_size=8, dtype=torch.float32)
    got = decode(case, num_splits, window=window, tiles=SMALL)
    expect_close(got, expected(case, window))


def test_rows_of_longer_chunks_are_left_alone(paged: Any, expect_close: Any) -> None:
    case = paged([1, 3, 1], [20, 30, 40], heads=(4, 2, 64), dtype=torch.float32)
    got = decode(case, 2, tiles=SMALL)
    assert got[1:4].isnan().all()
    alone = paged([1, 3, 1], [20, 30, 40], heads=(4, 2, 64), dtype=torch.float32)
    rows = [0, 4]
    tables, _, context = alone.tables
    want = reference(alone.q[rows], alone.pool, tables[[0, 2]], context[[0, 2]], scale=64**-0.5)
    expect_close(got[rows], want)


def test_an_empty_context_gives_zeros(paged: Any) -> None:
    case = paged([1, 1], [5, 1], heads=(4, 2, 64), dtype=torch.float32)
    case.batch.context_lens_device[1] = 0
    for num_splits in (1, 4):
        assert decode(case, num_splits)[1].eq(0).all()


def test_the_winning_value_comes_out_bit_for_bit(paged: Any) -> None:
    """A query along one key, so long that it wins by over 100 nats: paging errors cannot hide."""
    context = 35
    case = paged([1], [context], heads=(2, 1, 64), block_size=8, dtype=torch.float16)
    table = case.tables[0][0]
    for count, position in enumerate(range(0, context, 3)):  # each place in a page comes by
        page, offset = int(table[position // 8]), position % 8
        case.q.copy_(case.pool.k[page, :, offset].expand_as(case.q) * 300)
        got = decode(case, 1 + count % 3, tiles=SMALL)
        assert torch.equal(got.view(2, 64), case.pool.v[page, :, offset].expand(2, 64))


def test_splits_fill_the_device_and_no_more() -> None:
    min_split = choose_tiles(torch.bfloat16).min_split
    for rows, context, num_sms in itertools.product(
        (1, 4, 33, 512, 4096), (0, 1, 255, 4096, 131072), (8, 132)
    ):
        num_splits = choose_splits(rows, context, num_sms, min_split)
        assert 1 <= num_splits <= MAX_SPLITS
        assert num_splits == 1 or rows * num_splits <= PROGRAMS_PER_SM * num_sms
        assert num_splits <= MERGED_BY_ONE or (num_splits - 1) * min_split < context
    assert choose_splits(4, 8192, 132, min_split) == 32
    assert choose_splits(1024, 8192, 132, min_split) == 1


def test_wrong_arguments_are_named(paged: Any) -> None:
    case = paged([1], [5], heads=(4, 2, 64), dtype=torch.float32)
    out = case.poisoned_output()
    with pytest.raises(ValueError, match="out must have shape"):
        paged_decode(case.q, case.pool, *case.tables, out[:, 1:], scale=1.0)
    with pytest.raises(TypeError, match=r"pool\.k must be float32"):
        half = type(case.pool)(case.pool.k.half(), case.pool.v.half())
        paged_decode(case.q, half, *case.tables, out, scale=1.0)
    with pytest.raises(ValueError, match="do not share"):
        paged_decode(case.q[:, :3], case.pool, *case.tables, out[:, : 3 * 64], scale=1.0)
    with pytest.raises(ValueError, match=f"{MAX_SPLITS} splits, not {MAX_SPLITS + 1}"):
        paged_decode(case.q, case.pool, *case.tables, out, scale=1.0, num_splits=MAX_SPLITS + 1)
    with pytest.raises(ValueError, match="no workspace for 3 splits of 2 heads"):
        small = allocate_workspace(5, 2, 64, case.q.device)
        paged_decode(case.q, case.pool, *case.tables, out, scale=1.0, num_splits=3, workspace=small)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("heads", "block_size", "dtype"),
    [
        *(((28, 4, 128), block_size, torch.bfloat16) for block_size in (8, 16, 32, 64)),
        ((9, 3, 64), 16, torch.bfloat16),
        ((16, 1, 64), 32, torch.bfloat16),
        ((8, 8, 96), 16, torch.bfloat16),
        ((10, 2, 80), 8, torch.bfloat16),
        ((48, 2, 128), 16, torch.bfloat16),
        ((32, 8, 128), 16, torch.float16),
    ],
)
def test_decode_on_the_gpu(
    paged: Any, expect_close: Any, heads: Any, block_size: int, dtype: torch.dtype
) -> None:
    contexts = [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 257, 511, 1000, 1025, 2049, 9001]
    case = paged([1] * 18, contexts, heads=heads, block_size=block_size, dtype=dtype)
    for window in (None, 1, 100, 513):
        want = expected(case, window)
        for num_splits in (1, 2, 7, MAX_SPLITS):
            got = decode(case, num_splits, window=window)
            expect_close(got, want, dtype)
            assert torch.equal(decode(case, num_splits, window=window), got), "whoever was last"
