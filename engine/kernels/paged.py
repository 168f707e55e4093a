"""What the paged kernels share: the checks of a pool and its tables, the addresses of tiles."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.checks import (
    FLOATS,
    expect_contiguous,
    expect_device,
    expect_dtype,
    expect_shape,
    expect_unit_stride,
)

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool

# Wider than any context, and still an int32: the window of a model without one.
NO_WINDOW = 2**31 - 1
# Below every score, and finite: a row that has seen nothing yet keeps weights of 0 and not NaN.
NO_SCORE = tl.constexpr(-1.0e30)


@triton.jit
def page_rows(
    table,
    first,
    offsets,
    in_range,
    stride_page,
    stride_token,
    PAGE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Offsets (TILE,) int64 of the tokens first + offsets; `first` is a multiple of TILE."""
    if TILE <= PAGE:
        page = tl.load(table + first // PAGE).to(tl.int64)
        return page * stride_page + (first % PAGE + offsets) * stride_token
    else:
        tokens = first + offsets
        pages = tl.load(table + tokens // PAGE, mask=in_range, other=0).to(tl.int64)
        return pages * stride_page + (tokens % PAGE) * stride_token


@triton.jit
def load_rows(base, rows, in_range, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """(TILE, BLOCK_D) elements at base + rows; zeros out of range and beyond HEAD_DIM.

    Zeros matter: memory of tokens not yet written may hold NaN, and 0 * NaN is NaN.
    """
    offs_d = tl.arange(0, BLOCK_D)
    mask = in_range[:, None]
    if BLOCK_D != HEAD_DIM:
        mask = mask & (offs_d < HEAD_DIM)[None, :]
    return tl.load(base + rows[:, None] + offs_d[None, :], mask=mask, other=0.0)


def check_pool(pool: LayerPool, head_dim: int, dtype: torch.dtype, device: torch.device) -> None:
    """k and v (pages, H_kv, power of two >= 8, head_dim) with equal strides.

    Raises: ValueError or TypeError.
    """
    k, v = pool
    expect_shape("pool.k", k, (None, None, None, head_dim))
    expect_shape("pool.v", v, k.shape)
    for name, pages in (("pool.k", k), ("pool.v", v)):
        expect_dtype(name, pages, (dtype,))
        expect_device(name, pages, device)
        expect_unit_stride(name, pages)
    if k.stride() != v.stride():
        raise ValueError(f"pool.k has strides {k.stride()}, pool.v {v.stride()}; they must agree")
    block_size = k.shape[2]
    if block_size < 8 or block_size & (block_size - 1):
        raise ValueError(f"block_size must be a power of two and at least 8, not {block_size}")


def check_queries(q: Tensor, pool: LayerPool) -> None:
    """q (T, H, D), dense in D, with H a multiple of the pool's heads. Raises: as check_pool."""
    expect_shape("q", q, (None, None, None))
    expect_dtype("q", q, FLOATS)
    expect_unit_stride("q", q)
    check_pool(pool, q.shape[2], q.dtype, q.device)
    if q.shape[1] % pool.k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads do not share {pool.k.shape[1]} KV heads evenly")


def check_tables(
    block_tables: Tensor, query_starts: Tensor, context_lens: Tensor, device: torch.device
) -> None:
    """int32 (S, P), (S + 1,) and (S,) on `device`. Raises: ValueError or TypeError."""
    num_sequences = block_tables.shape[0]
    expect_shape("block_tables", block_tables, (num_sequences, None))
    expect_unit_stride("block_tables", block_tables)
    for name, tensor, size in (
        ("query_starts", query_starts, num_sequences + 1),
        ("context_lens", context_lens, num_sequences),
    ):
        expect_shape(name, tensor, (size,))
        expect_contiguous(name, tensor)
    for tensor in (block_tables, query_starts, context_lens):
        expect_dtype("block_tables, query_starts and context_lens", tensor, (torch.int32,))
        expect_device("block_tables, query_starts and context_lens", tensor, device)


def check_output(out: Tensor, q: Tensor) -> None:
    """out (T, H * D), contiguous, of q's dtype and device. Raises: ValueError or TypeError."""
    expect_shape("out", out, (q.shape[0], q.shape[1] * q.shape[2]))
    expect_dtype("out", out, (q.dtype,))
    expect_device("out", out, q.device)
    expect_contiguous("out", out)
