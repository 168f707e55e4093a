"""Packed pages turned back to fp32, bit for bit as engine/kv/packing.py does: for whoever looks."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.checks import INTEGERS, expect_contiguous, expect_dims, expect_dtype_in
from engine.kernels.packed_pool import check_packed_pool, sides_of
from engine.kernels.packed_rows import (
    channels_of,
    load_channel_meta,
    load_key_codes,
    load_token_meta,
    load_value_codes,
    numbers_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from engine.kernels.packed_pool import PackedPool

NUM_WARPS = 4
TRITON_DTYPES = {
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float32: tl.float32,
}


@triton.jit
def _turned_back(
    codes, record, SIDE: tl.constexpr, PART: tl.constexpr, PIECE: tl.constexpr, IS_KEY: tl.constexpr
):
    """(page, block) fp32 of one piece; `codes` are K's (block, page) or V's (page, block)."""
    if SIDE.nbits == 16:
        numbers = codes.to(tl.float32)
    else:
        numbers = numbers_of(codes, SIDE, tl.float32)[PART]
    if IS_KEY:
        numbers = tl.trans(numbers)
    if SIDE.nbits == 16:
        return numbers
    elif SIDE.by_channel:
        numbers *= load_channel_meta(record, SIDE, 0, SIDE.starts[PIECE])[None, :]
        if SIDE.has_least:
            numbers += load_channel_meta(record, SIDE, 1, SIDE.starts[PIECE])[None, :]
        return numbers
    else:
        numbers *= load_token_meta(record, SIDE, 0, SIDE.groups[PIECE])[:, None]
        if SIDE.has_least:
            numbers += load_token_meta(record, SIDE, 1, SIDE.groups[PIECE])[:, None]
        return numbers


@triton.jit
def _gather_side(out, record, SIDE: tl.constexpr, IS_KEY: tl.constexpr, DTYPE: tl.constexpr):
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    rows = tl.arange(0, SIDE.page)[:, None] * SIDE.head_dim
    for column in tl.static_range(COLUMNS):
        if IS_KEY:
            codes = load_key_codes(record, SIDE, column, DTYPE)
        else:
            codes = load_value_codes(record, SIDE, column, DTYPE)
        for part in tl.static_range(PARTS):
            numbers = _turned_back(codes, record, SIDE, part, column * PARTS + part, IS_KEY)
            channels, inside = channels_of(SIDE, SIDE.starts[column * PARTS + part])
            tl.store(out + rows + channels[None, :], numbers, mask=inside[None, :])


@triton.jit
def _gather_kernel(
    pages,
    records,
    k_out,
    v_out,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    RECORD_BYTES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    head = tl.program_id(1)
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + head
    page = tl.load(pages + tl.program_id(0)).to(tl.int64)
    record = records + (page * tl.num_programs(1) + head) * RECORD_BYTES
    at = place * (KEY.page * KEY.head_dim)
    if tl.program_id(2) == 0:
        _gather_side(k_out + at, record, KEY, True, DTYPE)
    else:
        _gather_side(v_out + at, record, VALUE, False, DTYPE)


def gather(pool: PackedPool, pages: Tensor) -> tuple[Tensor, Tensor]:
    """K and V (P, H_kv, block_size, D) in fp32 of the packed pages `pages` (P,), as attention sees
    them. Never waits for the device. Raises: ValueError or TypeError.
    """
    records, wide, layout = pool
    check_packed_pool(pool, layout.head_dim, wide.k.dtype)
    expect_dims("pages", pages, "P")
    expect_dtype_in("pages", pages, INTEGERS)
    expect_contiguous("pages", pages)
    shape = (pages.shape[0], records.shape[1], layout.block_size, layout.head_dim)
    k, v = (torch.empty(shape, dtype=torch.float32, device=records.device) for _ in range(2))
    if pages.shape[0]:
        key, value = sides_of(layout)
        _gather_kernel[(pages.shape[0], records.shape[1], 2)](
            pages,
            records,
            k,
            v,
            KEY=key,
            VALUE=value,
            RECORD_BYTES=layout.num_bytes,
            DTYPE=TRITON_DTYPES[wide.k.dtype],
            num_warps=NUM_WARPS,
        )
    return k, v
