"""Root-mean-square norm of rows, compiled for this processor."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import carray, njit

from engine.cpu.compiled import FIRST, SCRATCH, SCRATCH_BYTES, jit_body, own_share
from engine.cpu.lanes import VECTOR, as_float, from_bf16, from_fp16, halves_at, to_fp16
from engine.cpu.openmp import thread_number
from engine.cpu.rows import BF16, FP32, load, row_at, size_of, store, to_bf16


@njit(fastmath=True)
def add_residual(residual, kind, x, width):
    """x = residual = x + residual, rounded to the residual's kind."""
    if kind == FP32:
        y = row_at(residual, width)
        for i in range(width):
            x[i] += y[i]
            y[i] = x[i]
    else:
        h = carray(halves_at(residual), (width,))
        if kind == BF16:
            for i in range(width):
                h[i] = to_bf16(x[i] + from_bf16(h[i]))
                x[i] = from_bf16(h[i])
        else:
            for i in range(width):
                h[i] = to_fp16(x[i] + from_fp16(h[i]))
                x[i] = from_fp16(h[i])


@jit_body
def normalize(words):
    """out = x / rms(x) * weight row by row; with a residual, x is residual + x and goes there.

    Rows are (outer, inner): x's row i, j begins at element `outer_stride` * i + width * j; out and
    residual are dense. Source: Zhang and Sennrich, 2019.
    """
    w = carray(words, (FIRST + 11,))
    kind, x_at, residual, weight, out = w[4], w[5], w[6], w[7], w[8]
    num_outer, num_inner, outer_stride, width = w[9], w[10], w[11], w[12]
    eps, scale_kind = as_float(np.int32(w[13])), w[14]
    size = size_of(kind)
    scratch = w[SCRATCH] + np.int64(thread_number()) * w[SCRATCH_BYTES]
    x, scale = row_at(scratch, width), row_at(scratch + (width + VECTOR) // VECTOR * 64, width)
    load(weight, scale_kind, scale, width)
    begin, end = own_share(words, num_outer * num_inner)
    for row in range(begin, end):
        at = x_at + (row // num_inner * outer_stride + row % num_inner * width) * size
        load(at, kind, x, width)
        if residual:
            add_residual(residual + row * width * size, kind, x, width)
        square = np.float32(0)
        for i in range(width):
            square += x[i] * x[i]
        part = np.float32(1) / np.sqrt(square / np.float32(width) + eps)
        for i in range(width):
            x[i] = x[i] * part * scale[i]
        store(out + row * width * size, kind, x, width)
