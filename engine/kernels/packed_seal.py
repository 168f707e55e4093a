"""Pages that have become full, packed: wide rows to records, bit for bit as engine/kv/packing.py.

A program packs a share of one page's K or V of one head: channels where each has its scale, tokens
where a token's channels share one.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment,misc"
# ruff: noqa: RUF005 (Triton adds tuples, but does not unpack into them)

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div
from engine.kernels.checks import (
    INTEGERS,
    expect_contiguous,
    expect_dims,
    expect_dtype_in,
    expect_shape,
)
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, overlap, wait_for_previous
from engine.kernels.packed_pool import check_packed_pool, sides_of
from engine.kernels.packed_rows import channels_of
from engine.kv.packing import E4M3_MAX, FP16_MAX

if TYPE_CHECKING:
    from torch import Tensor

    from engine.kernels.packed_pool import PackedPool, Side

NUM_WARPS = 2
# Channels, or tokens, that a program packs: few, as a page is waited for, and there are not many.
WIDTH = tl.constexpr(16)
# Pages at once. A graph has room for one of each request, and most steps have none: 6,000 programs
# that found nothing took 8 us on an H100, 1,000 took 1.8.
MOST_ROWS = 32
LARGEST = tl.constexpr(FP16_MAX)
LARGEST_E4M3 = tl.constexpr(E4M3_MAX)
# Added to a float32 of a few thousands and subtracted again, it leaves the nearest integer, even
# of two.
ROUNDER = tl.constexpr(1.5 * 2.0**23)
# e4m3 below 2**-6 counts in 2**-9; above, its exponent's bias is 120 less than float32's.
LEAST_NORMAL = tl.constexpr(2.0**-6)
BIAS = tl.constexpr(120 << 3)


@triton.jit
def _clean(rows, channels, inside):
    """(tokens, channels) fp32: finite, and in fp16's range; 0 where not `inside`."""
    x = tl.load(rows[:, None] + channels[None, :], mask=inside[None, :], other=0.0).to(tl.float32)
    x = tl.where(x == x, x, 0.0)
    return tl.minimum(tl.maximum(x, -LARGEST), LARGEST)


@triton.jit
def _scale_and_least(low, high, SIDE: tl.constexpr):
    """Both rounded to fp16, in fp32; of values between `low` and `high`."""
    least = tl.zeros_like(low)
    if SIDE.has_least:
        least = low.to(tl.float16).to(tl.float32)
        scale = tl.div_rn(tl.maximum(high - least, 0.0), SIDE.top * 1.0)
    elif SIDE.is_float:
        scale = tl.div_rn(tl.maximum(high, -low), LARGEST_E4M3)
    else:
        scale = tl.div_rn(tl.maximum(high, -low), SIDE.middle - 1.0)
    return scale.to(tl.float16).to(tl.float32), least


@triton.jit
def _rounded(x):
    return ((x + ROUNDER) - ROUNDER).to(tl.int32)


@triton.jit
def _e4m3(x):
    """The nearest, even of two, of |x| <= 448, in the low byte of an int32."""
    bits = x.to(tl.int32, bitcast=True)
    size = bits & 0x7FFFFFFF
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - BIAS
    small = _rounded(tl.abs(x) * 512.0)
    return ((bits >> 24) & 0x80) | tl.where(tl.abs(x) < LEAST_NORMAL, small, normal)


@triton.jit
def _codes(x, scale, least, SIDE: tl.constexpr):
    """int32; `scale` and `least` are broadcast to x."""
    steps = tl.div_rn(x - least, tl.where(scale > 0.0, scale, 1.0))
    steps = tl.where(scale > 0.0, steps, 0.0)
    if SIDE.is_float:
        return _e4m3(tl.minimum(tl.maximum(steps, -LARGEST_E4M3), LARGEST_E4M3))
    elif SIDE.has_least:
        return _rounded(tl.minimum(tl.maximum(steps, 0.0), SIDE.top))
    else:
        end = SIDE.middle - 1.0
        return _rounded(tl.minimum(tl.maximum(steps, -end), end)) + SIDE.middle


@triton.jit
def _store_codes(record, codes, tokens, places, inside, SIDE: tl.constexpr, IS_KEY: tl.constexpr):
    """(tokens, places) bytes, or elements, of a row; K's with the channels as rows."""
    base = (record + SIDE.codes_at).to(tl.pointer_type(codes.dtype))
    if IS_KEY:
        ptrs = base + places[:, None] * SIDE.page + tokens[None, :]
        tl.store(ptrs, tl.trans(codes), mask=inside[:, None])
    else:
        ptrs = base + tokens[:, None] * SIDE.row_units + places[None, :]
        tl.store(ptrs, codes, mask=inside[None, :])


@triton.jit
def _store_meta(record, scale, least, at, inside, SIDE: tl.constexpr, COUNT: tl.constexpr):
    """Scales at `at` of a record's numbers, least values COUNT numbers on."""
    ptrs = (record + SIDE.meta_at).to(tl.pointer_type(tl.float16)) + at
    tl.store(ptrs, scale.to(tl.float16), mask=inside)
    if SIDE.has_least:
        tl.store(ptrs + COUNT, least.to(tl.float16), mask=inside)


@triton.jit
def _pack_channels(head, record, stride, share, SIDE: tl.constexpr, IS_KEY: tl.constexpr):
    """All tokens of WIDTH places of each column: the channels that have a scale each."""
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    PAGE: tl.constexpr = SIDE.page
    tokens = tl.arange(0, PAGE)
    rows = head + tokens * stride
    offsets = share * WIDTH + tl.arange(0, WIDTH)
    inside = offsets < SIDE.piece
    for column in tl.static_range(COLUMNS):
        merged = tl.zeros((PAGE, WIDTH), tl.int32)
        for part in tl.static_range(PARTS):
            channels = SIDE.starts[column * PARTS + part] + offsets
            x = _clean(rows, channels, inside)
            scale, least = _scale_and_least(tl.min(x, 0), tl.max(x, 0), SIDE)
            _store_meta(record, scale, least, channels, inside, SIDE, SIDE.head_dim)
            merged |= _codes(x, scale[None, :], least[None, :], SIDE) << (part * SIDE.nbits)
        places = column * SIDE.piece + offsets
        _store_codes(record, merged.to(tl.uint8), tokens, places, inside, SIDE, IS_KEY)


@triton.jit
def _pack_tokens(head, record, stride, share, SIDE: tl.constexpr, IS_KEY: tl.constexpr):
    """All channels of WIDTH tokens, read twice: for their ends, then for their codes."""
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    GROUPS: tl.constexpr = SIDE.num_groups
    BLOCK: tl.constexpr = SIDE.block
    tokens = share * WIDTH + tl.arange(0, WIDTH)
    rows = head + tokens * stride
    scales = ()
    leasts = ()
    for group in tl.static_range(GROUPS):
        # Channels beyond the group are 0 here, which `inside` keeps from being an end.
        offsets = tl.arange(0, SIDE.group_block)
        inside = offsets < SIDE.group
        x = _clean(rows, group * SIDE.group + offsets, inside)
        low = tl.min(tl.where(inside[None, :], x, float("inf")), 1)
        high = tl.max(tl.where(inside[None, :], x, -float("inf")), 1)
        scale, least = _scale_and_least(low, high, SIDE)
        at = group * SIDE.page + tokens
        _store_meta(record, scale, least, at, tokens >= 0, SIDE, GROUPS * SIDE.page)
        scales = scales + (scale,)
        leasts = leasts + (least,)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < SIDE.piece
    for column in tl.static_range(COLUMNS):
        merged = tl.zeros((WIDTH, BLOCK), tl.int32)
        for part in tl.static_range(PARTS):
            x = _clean(rows, SIDE.starts[column * PARTS + part] + offsets, inside)
            scale = scales[SIDE.groups[column * PARTS + part]]
            least = leasts[SIDE.groups[column * PARTS + part]]
            merged |= _codes(x, scale[:, None], least[:, None], SIDE) << (part * SIDE.nbits)
        places = column * SIDE.piece + offsets
        _store_codes(record, merged.to(tl.uint8), tokens, places, inside, SIDE, IS_KEY)


@triton.jit
def _copy_tokens(head, record, stride, share, SIDE: tl.constexpr, IS_KEY: tl.constexpr):
    """WIDTH tokens as they are."""
    tokens = share * WIDTH + tl.arange(0, WIDTH)
    channels, inside = channels_of(SIDE, 0)
    ptrs = (head + tokens * stride)[:, None] + channels[None, :]
    x = tl.load(ptrs, mask=inside[None, :], other=0.0)
    _store_codes(record, x, tokens, channels, inside, SIDE, IS_KEY)


@triton.jit
def _pack(head, record, stride, share, SIDE: tl.constexpr, IS_KEY: tl.constexpr):
    if SIDE.nbits == 16:
        _copy_tokens(head, record, stride, share, SIDE, IS_KEY)
    elif SIDE.by_channel:
        _pack_channels(head, record, stride, share, SIDE, IS_KEY)
    else:
        _pack_tokens(head, record, stride, share, SIDE, IS_KEY)


@triton.jit(do_not_specialize=["num_seals"])
def _seal_kernel(
    seals,
    k_wide,
    v_wide,
    records,
    num_seals,
    stride_page,
    stride_head,
    stride_token,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
    RECORD_BYTES: tl.constexpr,
    KEY_SHARES: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    seal = tl.program_id(0)
    head = tl.program_id(1)
    share = tl.program_id(2)
    packed = tl.load(seals + 2 * seal + 1).to(tl.int64)
    while packed >= 0:
        wide = tl.load(seals + 2 * seal).to(tl.int64)
        begin = wide * stride_page + head * stride_head
        record = records + (packed * tl.num_programs(1) + head) * RECORD_BYTES
        if share < KEY_SHARES:
            _pack(k_wide + begin, record, stride_token, share, KEY, True)
        else:
            _pack(v_wide + begin, record, stride_token, share - KEY_SHARES, VALUE, False)
        seal += tl.num_programs(0)
        packed = tl.load(seals + 2 * seal + 1, mask=seal < num_seals, other=-1).to(tl.int64)


def seal(pool: PackedPool, seals: Tensor) -> None:
    """Packs wide page seals[i, 0] into packed page seals[i, 1], up to where that is negative.

    `seals` (K, 2) are integers on the device, not checked there; the wide pages stay as they are.
    Never waits for the device and allocates nothing. Raises: ValueError or TypeError.
    """
    records, wide, layout = pool
    check_packed_pool(pool, layout.head_dim, wide.k.dtype)
    expect_dims("seals", seals, "K 2")
    expect_shape("seals", seals, (seals.shape[0], 2))
    expect_dtype_in("seals", seals, INTEGERS)
    expect_contiguous("seals", seals)
    if seals.shape[0] == 0:
        return
    key, value = sides_of(layout)
    key_shares, value_shares = _num_shares(key), _num_shares(value)
    num_rows = min(seals.shape[0], MOST_ROWS)
    launch(
        _seal_kernel,
        (num_rows, records.shape[1], key_shares + value_shares),
        seals,
        wide.k,
        wide.v,
        records,
        seals.shape[0],
        *wide.k.stride()[:3],
        KEY=key,
        VALUE=value,
        RECORD_BYTES=layout.num_bytes,
        KEY_SHARES=key_shares,
        num_warps=NUM_WARPS,
        **overlap(records.device),
    )


def _num_shares(side: Side) -> int:
    """Programs that pack one side of a page."""
    return ceil_div(side.piece if side.by_channel else side.page, WIDTH.value)
