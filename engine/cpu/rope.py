"""Rotation of queries and keys, and the way of K and V into their pages, compiled."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import carray, njit

from engine.cpu.compiled import FIRST, SCRATCH, SCRATCH_BYTES, jit_body, own_share
from engine.cpu.lanes import VECTOR, longs_at
from engine.cpu.openmp import thread_number
from engine.cpu.rows import load, row_at, scatter, size_of, store


@njit(fastmath=True)
def turn(x, cos, sin, half, y):
    """y = x with each pair (i, i + half) turned by its angle."""
    for i in range(half):
        y[i] = x[i] * cos[i] - x[i + half] * sin[i]
        y[i + half] = x[i + half] * cos[i] + x[i] * sin[i]


@jit_body
def rotate_and_write(words):
    """q_out = q rotated; K rotated and V go to their slots, K of a page as (head_dim, block_size).

    Source: rotary embedding, Su et al., RoFormer, 2021.
    """
    w = carray(words, (FIRST + 18,))
    kind, q, k, v, q_out, pages = w[4], w[5], w[6], w[7], w[8], w[9]
    cos_at, sin_at, positions_at, slots_at = w[10], w[11], w[12], w[13]
    num_tokens, num_heads, num_kv_heads, head_dim, block_size = w[14], w[15], w[16], w[17], w[18]
    q_stride, k_stride, v_stride = w[19], w[20], w[21]
    size, half = size_of(kind), head_dim // 2
    row_bytes, run_bytes = head_dim * size, 2 * head_dim * block_size * size
    scratch = w[SCRATCH] + np.int64(thread_number()) * w[SCRATCH_BYTES]
    x, y = row_at(scratch, head_dim), row_at(scratch + (head_dim + VECTOR) // VECTOR * 64, head_dim)
    positions = carray(longs_at(positions_at), (num_tokens,))
    slots = carray(longs_at(slots_at), (num_tokens,))
    begin, end = own_share(words, num_tokens)
    for token in range(begin, end):
        cos = row_at(cos_at + positions[token] * half * 4, half)
        sin = row_at(sin_at + positions[token] * half * 4, half)
        for head in range(num_heads):
            load(q + (token * q_stride + head * head_dim) * size, kind, x, head_dim)
            turn(x, cos, sin, half, y)
            store(q_out + (token * num_heads + head) * row_bytes, kind, y, head_dim)
        page, offset = slots[token] // block_size, slots[token] % block_size
        for head in range(num_kv_heads):
            run = pages + (page * num_kv_heads + head) * run_bytes
            load(k + (token * k_stride + head * head_dim) * size, kind, x, head_dim)
            turn(x, cos, sin, half, y)
            scatter(run + offset * size, kind, y, head_dim, block_size)
            load(v + (token * v_stride + head * head_dim) * size, kind, x, head_dim)
            store(run + run_bytes // 2 + offset * row_bytes, kind, x, head_dim)
