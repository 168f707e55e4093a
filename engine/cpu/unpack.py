"""K and V of packed pages as floats, into the same columns and panels as wide ones.

Source: engine/kv/packing.py, whose bits these loops give: code * scale + least.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numba import carray, njit

from engine.cpu.lanes import LANE_BYTES, LANES, bytes_at, from_fp16, halves_at
from engine.cpu.rows import row_at
from engine.cpu.widen import widen_keys, widen_values

if TYPE_CHECKING:
    from torch import Tensor

    from engine.kv.formats import CodeFormat, RecordLayout

LAYOUT_WORDS: Final = 14
# Each e4m3 code as a float.
E4M3: Final = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()


def layout_words(layout: RecordLayout) -> Tensor:
    """(LAYOUT_WORDS,) int64: what the loops below look up."""
    key, value = layout.format.key, layout.format.value
    words = [
        layout.num_bytes,
        layout.value_at,
        layout.key_meta_at,
        layout.value_meta_at,
        E4M3.data_ptr(),
        *_words(key),
        key.axis == "channel",
        *_words(value),
        value.group or layout.head_dim,
        layout.dtype_bytes,
    ]
    return torch.tensor(words, dtype=torch.int64)


def _words(form: CodeFormat) -> tuple[int, int, int]:
    """Bits, whether a float, and which code stands for the least value; -1 if that is stored."""
    zero = 0 if form.kind == "float" else 1 << (form.nbits - 1)
    return form.nbits, form.kind == "float", -1 if form.has_least else zero


@njit
def fp16_at(address, index):
    return from_fp16(carray(halves_at(address), (index + 1,))[index])


@njit
def least_of(meta, index, count, scale, zero):
    """What code 0 stands for, where the meta holds `count` scales."""
    return fp16_at(meta, count + index) if zero < 0 else -np.float32(zero) * scale


@njit(fastmath=True)
def unpack_run(codes, y, n, shift, mask, scale, least):
    """y[:n] = the codes' values, all under one scale."""
    for i in range(n):
        y[i] = np.float32((np.int32(codes[i]) >> shift) & mask) * scale + least


@njit(fastmath=True)
def unpack_floats(codes, y, n, table, scale):
    for i in range(n):
        y[i] = table[codes[i]] * scale


@njit
def unpack_keys(record, layout, kind, keys, first, count, head_dim, block_size):
    """K of `count` of a page's tokens, from `first` on, into columns."""
    nbits, is_float, zero, by_channel = layout[5], layout[6], layout[7], layout[8]
    if nbits == 16:
        widen_keys(record, kind, keys, first, count, head_dim, block_size)
        return
    meta, mask = record + layout[2], np.int32((1 << nbits) - 1)
    table = row_at(layout[4], 256)
    num_rows = head_dim * nbits // 8
    for j in range(num_rows):
        codes = carray(bytes_at(record + j * block_size + first), (count,))
        for part in range(8 // nbits):
            d = j + part * num_rows
            y = row_at(keys + d * LANE_BYTES, count)
            shift = np.int32(part * nbits)
            if not by_channel:
                for t in range(count):
                    scale = fp16_at(meta, first + t)
                    if is_float:
                        y[t] = table[codes[t]] * scale
                    else:
                        least = least_of(meta, first + t, block_size, scale, zero)
                        y[t] = np.float32((np.int32(codes[t]) >> shift) & mask) * scale + least
            elif is_float:
                unpack_floats(codes, y, count, table, fp16_at(meta, d))
            else:
                scale = fp16_at(meta, d)
                least = least_of(meta, d, head_dim, scale, zero)
                unpack_run(codes, y, count, shift, mask, scale, least)


@njit
def unpack_values(record, layout, kind, values, first, count, head_dim, block_size):
    """V of `count` of a page's tokens, from `first` on, into panels of LANES columns."""
    nbits, is_float, zero, group = layout[9], layout[10], layout[11], layout[12]
    at = record + layout[1]
    if nbits == 16:
        size = layout[13]
        widen_values(at + first * head_dim * size, kind, values, count, head_dim)
        return
    meta, mask = record + layout[3], np.int32((1 << nbits) - 1)
    table = row_at(layout[4], 256)
    row_bytes = head_dim * nbits // 8
    num_scales = head_dim // group * block_size
    for t in range(count):
        row = at + (first + t) * row_bytes
        d = 0
        # A run ends where the next codes lie in other bits, under another scale, in another panel.
        while d < head_dim:
            part, j = d // row_bytes, d % row_bytes
            n = min(row_bytes - j, group - d % group, LANES - d % LANES)
            codes = carray(bytes_at(row + j), (n,))
            panel = values + d // LANES * LANES * LANE_BYTES
            y = row_at(panel + t * LANE_BYTES + d % LANES * 4, n)
            index = d // group * block_size + first + t
            scale = fp16_at(meta, index)
            if is_float:
                unpack_floats(codes, y, n, table, scale)
            else:
                least = least_of(meta, index, num_scales, scale, zero)
                unpack_run(codes, y, n, np.int32(part * nbits), mask, scale, least)
            d += n
