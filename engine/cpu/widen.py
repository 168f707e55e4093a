"""K and V of pages as floats: into columns and panels that products are fast over."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

from numba import njit

from engine.cpu.lanes import LANE_BYTES, LANES, VECTOR, widen_bf16, widen_fp16, widen_fp32
from engine.cpu.rows import BF16, FP16, load, row_at, size_of


@njit
def widen_rows(source, source_step, target, num_rows, kind):
    """VECTOR elements of each row as floats; the rows of `target` are LANES wide."""
    for row in range(num_rows):
        at, to = source + row * source_step, target + row * LANE_BYTES
        if kind == BF16:
            widen_bf16(at, to)
        elif kind == FP16:
            widen_fp16(at, to)
        else:
            widen_fp32(at, to)


@njit
def widen_keys(page, kind, keys, first, count, head_dim, block_size):
    """K (head_dim, block_size) of `count` of a page's tokens, from `first` on, into columns."""
    size = size_of(kind)
    row_bytes, source = block_size * size, page + first * size
    if block_size % VECTOR or first % VECTOR:
        for d in range(head_dim):
            row = row_at(keys + d * LANE_BYTES, count)
            load(source + d * row_bytes, kind, row, count)
    else:
        for t in range(0, count, VECTOR):
            widen_rows(source + t * size, row_bytes, keys + t * 4, head_dim, kind)


@njit
def widen_values(rows, kind, values, count, head_dim):
    """V (count, head_dim) into panels of LANES columns and as many rows."""
    size = size_of(kind)
    for d in range(0, head_dim, LANES):
        width = min(LANES, head_dim - d)
        panel = values + d * LANE_BYTES
        if width % VECTOR:
            for t in range(count):
                row = row_at(panel + t * LANE_BYTES, width)
                load(rows + (t * head_dim + d) * size, kind, row, width)
        else:
            for x in range(0, width, VECTOR):
                source = rows + (d + x) * size
                widen_rows(source, head_dim * size, panel + x * 4, count, kind)
