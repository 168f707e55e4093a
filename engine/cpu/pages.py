"""The pages of one layer on a CPU: K and V of a token and head side by side in one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.attention import LayerPool

if TYPE_CHECKING:
    from torch import Tensor


def allocate_pages(
    num_pages: int, num_kv_heads: int, block_size: int, head_dim: int, dtype: torch.dtype
) -> LayerPool:
    """Pages of zeros, whose memory the system gives when they are first written.

    K and V are halves of one tensor (num_pages, H_kv, block_size, 2 D), so that one gather of
    rows brings both. Zeros, because masked rows are still multiplied: by 0, which NaN survives.
    """
    # numpy's zeros are the system's own; torch's are written, 1.4 s for 4 GiB.
    bits = {2: np.int16, 4: np.int32}[dtype.itemsize]
    zeros = np.zeros((num_pages, num_kv_heads, block_size, 2 * head_dim), bits)
    rows = torch.from_numpy(zeros).view(dtype)
    return LayerPool(rows[..., :head_dim], rows[..., head_dim:])


def rows_of(pool: LayerPool) -> Tensor:
    """The whole tensor behind a pool of `allocate_pages`."""
    num_pages, num_kv_heads, block_size, head_dim = pool.k.shape
    shape = (num_pages, num_kv_heads, block_size, 2 * head_dim)
    return pool.k.as_strided(shape, (*pool.k.stride()[:-1], 1))


def row_numbers(slots: Tensor, num_kv_heads: int, block_size: int) -> Tensor:
    """The rows of all heads of each slot, (T * H_kv,), in the order of tokens, then heads."""
    pages = torch.div(slots, block_size, rounding_mode="floor")
    first = slots + pages * ((num_kv_heads - 1) * block_size)
    heads = torch.arange(num_kv_heads) * block_size
    return (first[:, None] + heads).flatten()
