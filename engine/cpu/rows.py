"""Rows of elements in memory, as the floats that compiled loops compute with."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import carray, njit

from engine.cpu.lanes import (
    as_int,
    floats_at,
    from_bf16,
    from_fp16,
    halves_at,
    to_fp16,
)

# How the elements are stored.
BF16, FP16, FP32 = 0, 1, 2


@njit
def to_bf16(x):
    """Rounded to nearest, ties to even."""
    bits = as_int(x)
    odd = (bits >> np.int32(16)) & np.int32(1)
    return np.uint16((bits + np.int32(0x7FFF) + odd) >> np.int32(16))


@njit
def row_at(address, width):
    return carray(floats_at(address), (width,))


@njit
def size_of(kind):
    return 4 if kind == FP32 else 2


@njit(fastmath=True)
def load(address, kind, y, n):
    """y[:n] = the n elements there."""
    if kind == FP32:
        x = row_at(address, n)
        for i in range(n):
            y[i] = x[i]
    else:
        h = carray(halves_at(address), (n,))
        if kind == BF16:
            for i in range(n):
                y[i] = from_bf16(h[i])
        else:
            for i in range(n):
                y[i] = from_fp16(h[i])


@njit(fastmath=True)
def store(address, kind, x, n):
    """The n elements there = x[:n]."""
    if kind == FP32:
        y = row_at(address, n)
        for i in range(n):
            y[i] = x[i]
    else:
        h = carray(halves_at(address), (n,))
        if kind == BF16:
            for i in range(n):
                h[i] = to_bf16(x[i])
        else:
            for i in range(n):
                h[i] = to_fp16(x[i])


# Not `store` with a step: through it attention of 128 tokens takes 250 us instead of 230 (EPYC).
@njit(fastmath=True)
def scatter(address, kind, x, n, step):
    """The elements there, `step` elements apart, = x[:n]."""
    if kind == FP32:
        y = row_at(address, n * step)
        for i in range(n):
            y[i * step] = x[i]
    else:
        h = carray(halves_at(address), (n * step,))
        if kind == BF16:
            for i in range(n):
                h[i * step] = to_bf16(x[i])
        else:
            for i in range(n):
                h[i * step] = to_fp16(x[i])
