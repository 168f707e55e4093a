"""Root-mean-square norm, alone and fused with the residual addition before it.

Source: Zhang and Sennrich, 2019. Memory bound: a row is read once and kept in registers.
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
    expect_contiguous,
    expect_dense_rows,
    expect_dims,
    expect_dtype,
    expect_dtype_in,
    expect_shape,
)
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, overlap, wait_for_previous

if TYPE_CHECKING:
    from torch import Tensor

# A row lives in the registers of one program: 32 Ki floats are 128 of them in each of 256 threads.
MAX_WIDTH = 32768
# Elements per program where rows are short, as in the norm of each head.
SHORT_ROWS = 1024


@triton.jit
def _normalized(x, weight, offs_n, eps, N: tl.constexpr):
    """x / rms(x) * weight for fp32 rows x (rows, BLOCK_N) that are 0 from N on."""
    w = tl.load(weight + offs_n, mask=offs_n < N, other=0.0).to(tl.float32)
    mean_square = tl.sum(x * x, 1) / N
    return x * tl.rsqrt(mean_square + eps)[:, None] * w[None, :]


@triton.jit(do_not_specialize=["num_rows"])
def _rms_norm_kernel(
    x,
    weight,
    out,
    num_rows,
    num_inner,
    eps,
    stride_outer,
    stride_inner,
    N: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    rows = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_n = tl.arange(0, BLOCK_N)
    mask = (rows < num_rows)[:, None] & (offs_n < N)[None, :]
    starts = (rows // num_inner).to(tl.int64) * stride_outer + rows % num_inner * stride_inner
    values = tl.load(x + starts[:, None] + offs_n[None, :], mask=mask, other=0.0).to(tl.float32)
    result = _normalized(values, weight, offs_n, eps, N)
    out_ptrs = out + rows.to(tl.int64)[:, None] * N + offs_n[None, :]
    tl.store(out_ptrs, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _add_rms_norm_kernel(
    x,
    residual,
    weight,
    eps,
    stride_x,
    stride_residual,
    N: tl.constexpr,
    BLOCK_N: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    row = tl.program_id(0).to(tl.int64)
    offs_n = tl.arange(0, BLOCK_N)
    mask = (offs_n < N)[None, :]
    x_ptrs = x + row * stride_x + offs_n[None, :]
    residual_ptrs = residual + row * stride_residual + offs_n[None, :]
    total = tl.load(x_ptrs, mask=mask, other=0.0).to(tl.float32)
    total += tl.load(residual_ptrs, mask=mask, other=0.0).to(tl.float32)
    # The next layer adds to the rounded sum, so that is what is normalized.
    rounded = total.to(residual.dtype.element_ty)
    tl.store(residual_ptrs, rounded, mask=mask)
    result = _normalized(rounded.to(tl.float32), weight, offs_n, eps, N)
    tl.store(x_ptrs, result.to(x.dtype.element_ty), mask=mask)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last axis, contiguous and in x's dtype; the sum is fp32.

    x is (T, N) or (T, H, N), dense in N; weight (N,). Raises: ValueError or TypeError.
    """
    if x.dim() not in (2, 3):
        raise ValueError(f"x must be (T, N) or (T, H, N), not {tuple(x.shape)}")
    _check(x, weight)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    width = x.shape[-1]
    num_rows = x.numel() // width
    if num_rows == 0:
        return out
    num_inner, stride_inner = (x.shape[1], x.stride(1)) if x.dim() == 3 else (1, 0)
    block_n = power_of_two(width)
    block_r = max(1, SHORT_ROWS // block_n)
    launch(
        _rms_norm_kernel,
        (ceil_div(num_rows, block_r),),
        x,
        weight,
        out,
        num_rows,
        num_inner,
        eps,
        x.stride(0),
        stride_inner,
        N=width,
        BLOCK_N=block_n,
        BLOCK_R=block_r,
        num_warps=_num_warps(block_n * block_r),
        **overlap(x.device),
    )
    return out


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual), written into x and residual, which are returned.

    x and residual (T, N), dense in N, sharing no memory; weight (N,). The sum is rounded to
    the dtype before it is normalized. Raises: ValueError or TypeError.
    """
    expect_dims("x", x, "T N")
    _check(x, weight)
    expect_shape("residual", residual, x.shape)
    expect_dtype("residual", residual, x.dtype)
    expect_dense_rows("residual", residual)
    num_rows, width = x.shape
    if num_rows == 0:
        return x, residual
    block_n = power_of_two(width)
    launch(
        _add_rms_norm_kernel,
        (num_rows,),
        x,
        residual,
        weight,
        eps,
        x.stride(0),
        residual.stride(0),
        N=width,
        BLOCK_N=block_n,
        num_warps=_num_warps(block_n),
        **overlap(x.device),
    )
    return x, residual


def _check(x: Tensor, weight: Tensor) -> None:
    expect_dtype_in("x", x, FLOATS)
    expect_dense_rows("x", x)
    expect_shape("weight", weight, x.shape[-1:])
    expect_dtype_in("weight", weight, FLOATS)
    expect_contiguous("weight", weight)
    if x.shape[-1] > MAX_WIDTH:
        raise ValueError(f"rows of {x.shape[-1]} are wider than {MAX_WIDTH}")


def _num_warps(block: int) -> int:
    """About 16 elements a thread, two loads of 16 bytes in bfloat16."""
    return max(1, min(8, block // 512))


def reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """rms_norm in torch and fp32; add_rms_norm is this of x + residual rounded to their dtype."""
    wide = x.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()
