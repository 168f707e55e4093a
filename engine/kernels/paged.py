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
    expect_dense_rows,
    expect_dims,
    expect_dtype,
    expect_dtype_in,
    expect_shape,
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


def check_pool(pool: LayerPool, head_dim: int, dtype: torch.dtype) -> None:
    """k and v (pages, H_kv, power of two >= 8, head_dim) with equal strides.

    Raises: ValueError or TypeError.
    """
    k, v = pool
    shape, strides = k.shape, k.stride()
    expect_dtype("pool.k", k, dtype)
    expect_dtype("pool.v", v, dtype)
    expect_shape("pool.v", v, shape)
    if len(shape) != 4 or shape[3] != head_dim:
        raise ValueError(f"pool.k must be (pages, H_kv, block, {head_dim}), not {tuple(shape)}")
    if strides != v.stride() or strides[3] != 1:
        raise ValueError(f"pool.k and pool.v have strides {strides} and {v.stride()}")
    block_size = shape[2]
    if block_size < 8 or block_size & (block_size - 1):
        raise ValueError(f"block_size must be a power of two and at least 8, not {block_size}")


def check_attention(q: Tensor, pool: LayerPool, out: Tensor) -> None:
    """q, out and a pool that go together. Raises: ValueError or TypeError."""
    check_heads(q, pool.k.shape[1], out)
    check_pool(pool, q.shape[2], q.dtype)


def check_heads(q: Tensor, num_kv_heads: int, out: Tensor) -> None:
    """q (T, H, D), dense in D, H a multiple of `num_kv_heads`; out (T, H * D), contiguous.

    Raises: ValueError or TypeError.
    """
    expect_dims("q", q, "T H D")
    num_tokens, num_heads, head_dim = q.shape
    expect_dtype_in("q", q, FLOATS)
    expect_dense_rows("q", q)
    if num_heads % num_kv_heads:
        raise ValueError(f"{num_heads} query heads do not share {num_kv_heads} KV heads evenly")
    expect_shape("out", out, (num_tokens, num_heads * head_dim))
    expect_dtype("out", out, q.dtype)
    expect_contiguous("out", out)


def check_tables(block_tables: Tensor, query_starts: Tensor, context_lens: Tensor) -> None:
    """int32 (S, P), (S + 1,) and (S,). Raises: ValueError or TypeError."""
    expect_dims("block_tables", block_tables, "S P")
    num_sequences = block_tables.shape[0]
    expect_shape("query_starts", query_starts, (num_sequences + 1,))
    expect_shape("context_lens", context_lens, (num_sequences,))
    expect_dtype("block_tables", block_tables, torch.int32)
    expect_dtype("query_starts", query_starts, torch.int32)
    expect_dtype("context_lens", context_lens, torch.int32)
    expect_dense_rows("block_tables", block_tables)
    expect_dense_rows("query_starts", query_starts)
    expect_dense_rows("context_lens", context_lens)
