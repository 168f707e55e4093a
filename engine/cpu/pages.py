"""The pages of one layer on a CPU, as the compiled loops read and write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.attention import LayerPool

if TYPE_CHECKING:
    from torch import Tensor


class CpuPool(LayerPool):
    """K and V as the seam has them, and the memory that both are views of.

    `memory` (num_pages, H_kv, 2, block_size * D): of a page and head first K as (D, block_size), so
    that one query meets the tokens of a page side by side, then V as (block_size, D).
    """

    memory: Tensor
    populated_bytes: int = 0  # that the system has backed before their first use

    @classmethod
    def allocate(
        cls,
        num_pages: int,
        num_kv_heads: int,
        block_size: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> CpuPool:
        """Zeros, whose memory the system gives when it is first written."""
        # numpy's zeros are the system's own; torch's are written, 1.4 s for 4 GiB.
        bits = {2: np.int16, 4: np.int32}[dtype.itemsize]
        zeros = np.zeros((num_pages, num_kv_heads, 2, block_size * head_dim), bits)
        memory = torch.from_numpy(zeros).view(dtype)
        heads = (num_pages, num_kv_heads)
        pool = cls(
            memory[:, :, 0].view(*heads, head_dim, block_size).transpose(2, 3),
            memory[:, :, 1].view(*heads, block_size, head_dim),
        )
        pool.memory = memory
        return pool
