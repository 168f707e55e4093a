"""Decode attention over packed pages against fp64 on the dequantised K and V."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import TOLERANCES
from packed_case import FORMATS, ON_GPU, PackedCase, make_packed

from engine.kernels.packed_decode import PackedTiles, packed_decode
from engine.kernels.packed_prefill import reference
from engine.kernels.splits import MAX_SPLITS, allocate_workspace
from engine.kv.packing import unpack

# What the kernel may add to the error of the format.
MOST_ERROR = 2e-3
SMALL = PackedTiles(min_split=16, num_warps=4, num_stages=3)


def decode(
    case: PackedCase, num_splits: int, window: int | None = None, tiles: PackedTiles | None = SMALL
) -> torch.Tensor:
    num_heads, head_dim = case.q.shape[1:]
    num_kv_heads = case.pool.records.shape[1]
    workspace = allocate_workspace(
        len(case.query_lens) * num_kv_heads * num_splits,
        num_heads // num_kv_heads,
        head_dim,
        case.q.device,
    )
    workspace.parts.fill_(torch.nan)
    workspace.lse.fill_(torch.nan)
    out = case.poisoned_output()
    packed_decode(
        case.q,
        case.pool,
        *case.tables,
        out,
        scale=case.scale,
        window=window,
        num_splits=num_splits,
        workspace=workspace,
        tiles=tiles,
    )
    assert not workspace.counters.any(), "the next launch counts from 0"
    return out


def expected(case: PackedCase, window: int | None = None) -> torch.Tensor:
    lens = case.query_lens, case.context_lens
    return reference(
        case.q, case.pool, case.block_tables, *lens, case.slots, scale=case.scale, window=window
    )


def expect_near(got: torch.Tensor, want: torch.Tensor) -> None:
    """In absolute terms, besides the rounding of the result itself."""
    slack = want.abs() * torch.finfo(got.dtype).eps
    assert ((got.double() - want).abs() <= MOST_ERROR + slack).all()


@pytest.mark.parametrize("name", FORMATS)
def test_decode_is_attention_over_what_the_codes_stand_for(device: Any, name: str) -> None:
    case = make_packed([1, 1], [7, 52], FORMATS[name], heads=(2, 1, 64), device=device)
    want = expected(case)
    expect_near(decode(case, 3), want)


@pytest.mark.parametrize(
    ("name", "heads", "block_size", "num_sinks", "dtype"),
    [
        ("int4", (7, 1, 96), 32, 0, torch.float16),
        ("int8", (2, 2, 80), 16, 1, torch.float32),
        ("k4v2", (17, 1, 64), 16, 0, torch.float32),
    ],
)
def test_odd_heads_and_no_sink(
    device: Any, name: str, heads: Any, block_size: int, num_sinks: int, dtype: torch.dtype
) -> None:
    sizes = {"heads": heads, "block_size": block_size, "num_sinks": num_sinks, "dtype": dtype}
    case = make_packed([1, 1], [2 * block_size, 50], FORMATS[name], device=device, **sizes)
    expect_near(decode(case, 1), expected(case))


@pytest.mark.parametrize("window", [1, 17, 33, 1000])
def test_window(device: Any, window: int) -> None:
    case = make_packed([1, 1], [32, 53], FORMATS["int4"], heads=(1, 1, 64), device=device)
    expect_near(decode(case, 1 + window % 3, window), expected(case, window))


def test_the_winning_value_comes_out_bit_for_bit(device: Any) -> None:
    """A query along one key, so long that it wins by over 100 nats, in every kind of page."""
    for seed, name in enumerate(["int4", "k4v2", "fp8", "groups"]):
        case = make_packed([1], [54], FORMATS[name], heads=(1, 1, 64), seed=seed, device=device)
        packed = unpack(case.pool.records.cpu(), case.pool.layout, torch.float16)
        for position in (3, 16, 31, 40, 53):
            place = int(case.block_tables[0, position // 16]) - case.pool.records.shape[0]
            if position >= 48:
                place = int(case.slots[0]) // 16
            k, v = packed if place < 0 else (x.float().cpu() for x in case.pool.wide)
            key = k[place, 0, position % 16]
            # Of all keys, the one that is longest along a mix of itself and what sets it apart.
            others = k[:, 0].flatten(0, 1)
            direction = key - others[others.isfinite().all(1)].mean(0)
            case.q.copy_((direction * 3000 / direction.norm()).to(case.q).expand_as(case.q))
            got = decode(case, 1 + position % 3)[0].cpu()
            assert torch.equal(got, v[place, 0, position % 16].to(got.dtype)), (name, position)


def test_rows_of_chunks_and_of_no_context(device: Any) -> None:
    form = FORMATS["int4"]
    case = make_packed([1, 3, 1], [20, 30, 40], form, heads=(1, 1, 64), device=device)
    want = expected(case)
    tables, starts, context, slots = case.tables
    context[2] = 0
    out = case.poisoned_output()
    packed_decode(case.q, case.pool, tables, starts, context, slots, out, scale=case.scale)
    expect_near(out[:1], want[:1])
    assert out[1:4].isnan().all() and out[4].eq(0).all()


def test_wrong_arguments_are_named(device: Any) -> None:
    case = make_packed([1], [5], FORMATS["int4"], device=device)
    *tables, slots = case.tables
    out = case.poisoned_output()
    with pytest.raises(ValueError, match="slots must have shape"):
        packed_decode(case.q, case.pool, *tables, slots[:0], out, scale=1.0)
    with pytest.raises(TypeError, match=r"pool\.k must be float32"):
        packed_decode(case.q.float(), case.pool, *tables, slots, out.float(), scale=1.0)
    with pytest.raises(ValueError, match="do not share"):
        packed_decode(case.q[:, :3], case.pool, *tables, slots, out, scale=1.0)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "block_size", "heads", "dtype"), ON_GPU)
def test_decode_on_the_gpu(
    device: Any, name: str, block_size: int, heads: Any, dtype: torch.dtype
) -> None:
    contexts = [1, 63, 64, 65, 128, 129, 200, 257, 399]
    sizes = {"heads": heads, "block_size": block_size, "dtype": dtype}
    case = make_packed([1] * 9, contexts, FORMATS[name], device=device, **sizes)
    for window in (None, 1, 100):
        want = expected(case, window)
        for num_splits in (1, 2, 7, MAX_SPLITS):
            got = decode(case, num_splits, window, tiles=None)
            # Wide rows are weighed in the engine's own dtype.
            error = (got.double() - want).norm() / want.norm()
            assert float(error) <= TOLERANCES[dtype]
