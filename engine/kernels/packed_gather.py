"""Packed pages turned back into elements, as a record of pages that are not packed has them."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.checks import INTEGERS, expect_contiguous, expect_dims, expect_dtype_in
from engine.kernels.launching import launch
from engine.kernels.packed_pool import TRITON_DTYPES, check_packed_pool, sides_of
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


@triton.jit
def _turned_back(
    codes, record, SIDE: tl.constexpr, PART: tl.constexpr, PIECE: tl.constexpr, IS_KEY: tl.constexpr
):
    """fp32 of one piece, rounded as engine/kv/packing.py does; `codes` and this are K's (block,
    page) or V's (page, block).
    """
    if SIDE.nbits == 16:
        return codes.to(tl.float32)
    else:
        numbers = numbers_of(codes, SIDE, tl.float32)[PART]
        if SIDE.by_channel:
            numbers *= load_channel_meta(record, SIDE, 0, SIDE.starts[PIECE])[:, None]
            if SIDE.has_least:
                numbers += load_channel_meta(record, SIDE, 1, SIDE.starts[PIECE])[:, None]
        elif IS_KEY:
            numbers *= load_token_meta(record, SIDE, 0, SIDE.groups[PIECE])[None, :]
            if SIDE.has_least:
                numbers += load_token_meta(record, SIDE, 1, SIDE.groups[PIECE])[None, :]
        else:
            numbers *= load_token_meta(record, SIDE, 0, SIDE.groups[PIECE])[:, None]
            if SIDE.has_least:
                numbers += load_token_meta(record, SIDE, 1, SIDE.groups[PIECE])[:, None]
        return numbers


@triton.jit
def _gather_side(out, record, SIDE: tl.constexpr, IS_KEY: tl.constexpr, DTYPE: tl.constexpr):
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    tokens = tl.arange(0, SIDE.page)
    for column in tl.static_range(COLUMNS):
        if IS_KEY:
            codes = load_key_codes(record, SIDE, column, DTYPE)
        else:
            codes = load_value_codes(record, SIDE, column, DTYPE)
        for part in tl.static_range(PARTS):
            numbers = _turned_back(codes, record, SIDE, part, column * PARTS + part, IS_KEY)
            channels, inside = channels_of(SIDE, SIDE.starts[column * PARTS + part])
            if IS_KEY:
                ptrs = out + channels[:, None] * SIDE.page + tokens[None, :]
                tl.store(ptrs, numbers, mask=inside[:, None])
            else:
                ptrs = out + tokens[:, None] * SIDE.head_dim + channels[None, :]
                tl.store(ptrs, numbers, mask=inside[None, :])


@triton.jit(do_not_specialize=["num_packed"])
def _gather_kernel(
    pages,
    records,
    out,
    num_packed,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    RECORD_BYTES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    head = tl.program_id(1)
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + head
    page = tl.load(pages + tl.program_id(0)).to(tl.int64)
    if page >= num_packed:
        return
    record = records + (page * tl.num_programs(1) + head) * RECORD_BYTES
    elements: tl.constexpr = KEY.page * KEY.head_dim
    begin = out + place * (2 * elements)
    if tl.program_id(2) == 0:
        _gather_side(begin, record, KEY, True, DTYPE)
    else:
        _gather_side(begin + elements, record, VALUE, False, DTYPE)


def gather(pool: PackedPool, pages: Tensor, dtype: torch.dtype) -> Tensor:
    """Of the pages (P,) as a block table names them: (P, H_kv, 2 * block_size * D) of `dtype`.

    Of each K as (D, block_size), then V as (block_size, D). What stands for a wide page is not
    written. Never waits for the device. Raises: ValueError or TypeError.
    """
    records, wide, layout = pool
    check_packed_pool(pool, layout.head_dim, wide.k.dtype)
    expect_dims("pages", pages, "P")
    expect_dtype_in("pages", pages, INTEGERS)
    expect_contiguous("pages", pages)
    num_pages, num_kv_heads = pages.shape[0], records.shape[1]
    shape = (num_pages, num_kv_heads, 2 * layout.block_size * layout.head_dim)
    out = torch.empty(shape, dtype=dtype, device=records.device)
    if num_pages:
        key, value = sides_of(layout)
        launch(
            _gather_kernel,
            (num_pages, num_kv_heads, 2),
            pages,
            records,
            out,
            records.shape[0],
            KEY=key,
            VALUE=value,
            RECORD_BYTES=layout.num_bytes,
            DTYPE=TRITON_DTYPES[wide.k.dtype],
            num_warps=NUM_WARPS,
        )
    return out
