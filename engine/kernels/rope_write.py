"""Rotary embedding of q and k, with k and v stored into their pages, in one pass over qkv.

Source: RoFormer (Su et al., 2021), in the rotate-half pairing: channel i turns with i + D / 2.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.checks import (
    FLOATS,
    INTEGERS,
    expect_contiguous,
    expect_dense_rows,
    expect_dims,
    expect_dtype,
    expect_dtype_in,
    expect_shape,
)
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, overlap, wait_for_previous
from engine.kernels.paged import check_pool

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool

# Pairs per program: 128 threads with 16 bytes of each half.
PAIRS = 1024


@triton.jit
def _rotate(base, heads, mask, offs, cos, sin, stride_head, HALF: tl.constexpr):
    """Both halves (heads, HALF) of the rotated heads at `base`, in fp32."""
    ptrs = base + heads[:, None] * stride_head + offs[None, :]
    low = tl.load(ptrs, mask=mask, other=0.0).to(tl.float32)
    high = tl.load(ptrs + HALF, mask=mask, other=0.0).to(tl.float32)
    return low * cos[None, :] - high * sin[None, :], high * cos[None, :] + low * sin[None, :]


@triton.jit
def _rope_write_kernel(
    q,
    k,
    v,
    cos,
    sin,
    positions,
    slots,
    q_out,
    k_pages,
    v_pages,
    stride_q_token,
    stride_q_head,
    stride_k_token,
    stride_k_head,
    stride_v_token,
    stride_v_head,
    stride_page,
    stride_page_head,
    stride_page_token,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    token = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    offs = tl.arange(0, BLOCK_HALF)
    lanes = offs < HALF
    angle = tl.load(positions + token).to(tl.int64) * HALF + offs
    cos_row = tl.load(cos + angle, mask=lanes, other=0.0)
    sin_row = tl.load(sin + angle, mask=lanes, other=0.0)
    num_q_chunks: tl.constexpr = (NUM_HEADS + BLOCK_H - 1) // BLOCK_H
    if chunk < num_q_chunks:
        heads = chunk * BLOCK_H + tl.arange(0, BLOCK_H)
        mask = (heads < NUM_HEADS)[:, None] & lanes[None, :]
        base = q + token * stride_q_token
        low, high = _rotate(base, heads, mask, offs, cos_row, sin_row, stride_q_head, HALF)
        ptrs = q_out + (token * NUM_HEADS + heads)[:, None] * (2 * HALF) + offs[None, :]
        tl.store(ptrs, low.to(q_out.dtype.element_ty), mask=mask)
        tl.store(ptrs + HALF, high.to(q_out.dtype.element_ty), mask=mask)
    else:
        heads = (chunk - num_q_chunks) * BLOCK_H + tl.arange(0, BLOCK_H)
        mask = (heads < NUM_KV_HEADS)[:, None] & lanes[None, :]
        base = k + token * stride_k_token
        low, high = _rotate(base, heads, mask, offs, cos_row, sin_row, stride_k_head, HALF)
        slot = tl.load(slots + token).to(tl.int64)
        row = slot // PAGE * stride_page + slot % PAGE * stride_page_token
        target = row + heads[:, None] * stride_page_head + offs[None, :]
        tl.store(k_pages + target, low.to(k_pages.dtype.element_ty), mask=mask)
        tl.store(k_pages + target + HALF, high.to(k_pages.dtype.element_ty), mask=mask)
        source = v + token * stride_v_token + heads[:, None] * stride_v_head + offs[None, :]
        tl.store(v_pages + target, tl.load(source, mask=mask), mask=mask)
        tl.store(v_pages + target + HALF, tl.load(source + HALF, mask=mask), mask=mask)


def rope_write(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    pool: LayerPool,
) -> Tensor:
    """The rotated q (T, H, D), contiguous; rotated k and v go to slot page * block_size + offset.

    q (T, H, D), k and v (T, H_kv, D) may be strided in T and H. cos and sin (max_len, D / 2) fp32;
    positions < max_len and slots (T,) are integers on the device, not checked there. The
    rotation is fp32, rounded once. Never waits for the device. Raises: ValueError or TypeError.
    """
    _check_vectors(q, k, v, pool)
    num_tokens, num_heads, head_dim = q.shape
    half = head_dim // 2
    _check_lookups(num_tokens, half, cos, sin, positions, slots)
    q_out = torch.empty((num_tokens, num_heads, head_dim), dtype=q.dtype, device=q.device)
    if num_tokens == 0:
        return q_out
    num_kv_heads = pool.k.shape[1]
    block_half = power_of_two(half)
    block_h = min(power_of_two(num_heads), max(1, PAIRS // block_half))
    num_chunks = ceil_div(num_heads, block_h) + ceil_div(num_kv_heads, block_h)
    launch(
        _rope_write_kernel,
        (num_tokens, num_chunks),
        q,
        k,
        v,
        cos,
        sin,
        positions,
        slots,
        q_out,
        pool.k,
        pool.v,
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        *pool.k.stride()[:3],
        NUM_HEADS=num_heads,
        NUM_KV_HEADS=num_kv_heads,
        HALF=half,
        PAGE=pool.k.shape[2],
        BLOCK_H=block_h,
        BLOCK_HALF=block_half,
        num_warps=max(1, min(4, block_h * block_half // 256)),
        **overlap(q.device),
    )
    return q_out


def _check_vectors(q: Tensor, k: Tensor, v: Tensor, pool: LayerPool) -> None:
    expect_dims("q", q, "T H D")
    num_tokens, _, head_dim = q.shape
    if head_dim % 2:
        raise ValueError(f"head_dim must be even, not {head_dim}")
    check_pool(pool, head_dim, q.dtype)
    expect_dtype_in("q", q, FLOATS)
    expect_dense_rows("q", q)
    shape = (num_tokens, pool.k.shape[1], head_dim)
    for name, tensor in (("k", k), ("v", v)):
        expect_shape(name, tensor, shape)
        expect_dtype(name, tensor, q.dtype)
        expect_dense_rows(name, tensor)


def _check_lookups(
    num_tokens: int, half: int, cos: Tensor, sin: Tensor, positions: Tensor, slots: Tensor
) -> None:
    for name, angles in (("cos", cos), ("sin", sin)):
        expect_shape(name, angles, (cos.shape[0], half))
        expect_dtype(name, angles, torch.float32)
        expect_contiguous(name, angles)
    for name, index in (("positions", positions), ("slots", slots)):
        expect_shape(name, index, (num_tokens,))
        expect_dtype_in(name, index, INTEGERS)
        expect_contiguous(name, index)


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    pool: LayerPool,
) -> Tensor:
    """The same in torch: the rotated q, in fp32; the pool is written in its own dtype."""
    block_size = pool.k.shape[2]
    pages, offsets = slots // block_size, slots % block_size
    pool.k[pages, :, offsets] = _rotated(k, cos, sin, positions).to(pool.k.dtype)
    pool.v[pages, :, offsets] = v.to(pool.v.dtype)
    return _rotated(q, cos, sin, positions)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor) -> Tensor:
    low, high = x.float().chunk(2, dim=-1)
    c, s = cos[positions, None], sin[positions, None]
    return torch.cat((low * c - high * s, high * c + low * s), dim=-1)
