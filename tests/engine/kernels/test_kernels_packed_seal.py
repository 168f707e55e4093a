"""Records that kernels write and read, against engine/kv/packing.py: not one bit may differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from packed_case import FORMATS, rows_like_keys

from engine.attention import LayerPool
from engine.kernels import packed_seal
from engine.kernels.packed_gather import gather
from engine.kernels.packed_pool import PackedPool
from engine.kernels.packed_seal import seal
from engine.kv.formats import KV_FORMATS, RecordLayout
from engine.kv.packing import pack, unpack

UNTOUCHED = 255


def full_pages(head_dim: int, block_size: int = 16) -> torch.Tensor:
    """(3, 1, 2, block_size, D): constants, ties, tiny ranges, and what is no number."""
    draw = torch.Generator().manual_seed(5)
    x = rows_like_keys(3, 1, 2, block_size, head_dim, draw=draw) * 3
    x[0, :, 0, :, 3], x[0, :, 1, 5] = 2.0, -1.25
    x[0, :, 0, :, 4] = torch.arange(block_size) / 2
    x[0, :, 1, 6] = torch.arange(head_dim) / 4
    x[1, :, 0, :, 7] = 6e-6 * torch.rand(block_size, generator=draw)
    x[1, :, 1, 2] = 6e-6 * torch.rand(head_dim, generator=draw)
    x[2, 0, :, 0, 0], x[2, 0, :, 1, 0], x[2, 0, :, 3, 9] = torch.inf, -torch.inf, torch.nan
    return x


def pool_of(pages: torch.Tensor, form: Any, num_packed: int) -> PackedPool:
    _, num_heads, _, block_size, head_dim = pages.shape
    layout = RecordLayout(form, block_size, head_dim, pages.dtype.itemsize)
    shape = (num_packed, num_heads, layout.num_bytes)
    records = torch.full(shape, UNTOUCHED, dtype=torch.uint8, device=pages.device)
    return PackedPool(records, LayerPool(pages[:, :, 0], pages[:, :, 1]), layout)


def bits(x: torch.Tensor) -> torch.Tensor:
    """Of fp32; all that is no number has the same, as devices write it in bits of their own."""
    x = x.cpu()
    return torch.where(x.isnan(), torch.nan, x).view(torch.int32)


def check(
    monkeypatch: pytest.MonkeyPatch,
    form: Any,
    head_dim: int,
    dtype: torch.dtype,
    device: Any,
    block_size: int = 16,
) -> None:
    """With more pages to pack than rows of programs, and room for more."""
    form.key.check(block_size, head_dim)
    form.value.check(block_size, head_dim)
    pages = full_pages(head_dim, block_size).to(device, dtype)
    pool = pool_of(pages, form, 4)
    monkeypatch.setattr(packed_seal, "MOST_ROWS", 2)
    seal(pool, torch.tensor([[1, 3], [2, 0], [0, 2], [0, -1], [1, -1]], device=device))
    want = pack(pages[:, :, 0].cpu(), pages[:, :, 1].cpu(), pool.layout)
    assert torch.equal(pool.records[[2, 3, 0]].cpu(), want)
    assert (pool.records[1] == UNTOUCHED).all()
    order = torch.tensor([3, 0, 2], device=device)
    turned_back = unpack(pool.records[order].cpu(), pool.layout, dtype)
    got = gather(pool, order, torch.float32).unflatten(2, (2, -1))
    keys = got[:, :, 0].unflatten(2, (head_dim, block_size)).transpose(2, 3)
    values = got[:, :, 1].unflatten(2, (block_size, head_dim))
    for mine, exact in zip((keys, values), turned_back, strict=True):
        assert torch.equal(bits(mine.contiguous()), bits(exact))


@pytest.mark.parametrize("name", FORMATS)
def test_a_sealed_record_is_that_of_the_reference(
    monkeypatch: pytest.MonkeyPatch, device: Any, name: str
) -> None:
    check(monkeypatch, FORMATS[name], 64, torch.float16, device)


@pytest.mark.parametrize(
    ("name", "head_dim", "dtype"),
    [("int8", 80, torch.float32), ("groups", 96, torch.float32), ("auto", 48, torch.float16)],
)
def test_heads_that_are_no_power_of_two(
    monkeypatch: pytest.MonkeyPatch, device: Any, name: str, head_dim: int, dtype: torch.dtype
) -> None:
    check(monkeypatch, FORMATS[name], head_dim, dtype, device)


def test_wrong_arguments_are_named(device: Any) -> None:
    pool = pool_of(full_pages(64).to(device, torch.float16), KV_FORMATS["int4"], 2)
    seal(pool, torch.zeros(0, 2, dtype=torch.int32, device=device))
    with pytest.raises(TypeError, match="seals must be"):
        seal(pool, torch.zeros(1, 2, device=device))
    with pytest.raises(ValueError, match="records must have shape"):
        seal(pool._replace(records=pool.records[..., 1:]), torch.zeros(1, 2, dtype=torch.int32))
    with pytest.raises(ValueError, match="the layout is of pages"):
        other = RecordLayout(KV_FORMATS["int4"], 32, 64, 2)
        seal(pool._replace(layout=other), torch.zeros(1, 2, dtype=torch.int32))
    with pytest.raises(ValueError, match="16 to 128 tokens, not 8"):
        small = pool_of(full_pages(64, 8).to(device, torch.float16), KV_FORMATS["int4"], 2)
        seal(small, torch.zeros(1, 2, dtype=torch.int32))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("head_dim", "block_size"), [(128, 64), (64, 16), (128, 128), (64, 32)])
@pytest.mark.parametrize("name", FORMATS)
def test_records_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch,
    device: Any,
    name: str,
    head_dim: int,
    block_size: int,
    dtype: torch.dtype,
) -> None:
    check(monkeypatch, FORMATS[name], head_dim, dtype, device, block_size)
