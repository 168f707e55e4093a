"""The pages of one layer on a CPU: K and V of a token and head side by side in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from engine.attention import LayerPool

if TYPE_CHECKING:
    from torch import Tensor


# Pages are copied as these: torch gathers them in 7.8 ms where bf16 takes 11.4 (2 cores of a Xeon,
# one step's K and V of 32 SmolLM2 sequences of 208 tokens).
WORD: Final = torch.int64


class CpuPool(LayerPool):
    """K and V as the seam has them, and the same memory as it is read and written.

    One tensor (num_pages, H_kv, block_size, 2 D) holds both, so that one gather brings both:
    `pages` (num_pages * H_kv, words) has a row for each page and head, in machine words, `lines`
    (num_pages * H_kv * block_size, 2 D) one for each token and head.
    """

    pages: Tensor
    lines: Tensor

    @classmethod
    def allocate(
        cls,
        num_pages: int,
        num_kv_heads: int,
        block_size: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> CpuPool:
        """Zeros, whose memory the system gives when it is first written.

        Zeros, because masked lines are still multiplied: by 0, which NaN would survive.
        """
        # numpy's zeros are the system's own; torch's are written, 1.4 s for 4 GiB.
        bits = {2: np.int16, 4: np.int32}[dtype.itemsize]
        zeros = np.zeros((num_pages, num_kv_heads, block_size, 2 * head_dim), bits)
        both = torch.from_numpy(zeros).view(dtype)
        pool = cls(both[..., :head_dim], both[..., head_dim:])
        pool.pages = both.view(num_pages * num_kv_heads, block_size * 2 * head_dim).view(WORD)
        pool.lines = both.view(-1, 2 * head_dim)
        return pool


def line_numbers(slots: Tensor, num_kv_heads: int, block_size: int) -> Tensor:
    """The lines of all heads of each slot, (T * H_kv,), in the order of tokens, then heads."""
    pages = torch.div(slots, block_size, rounding_mode="floor")
    first = slots + pages * ((num_kv_heads - 1) * block_size)
    heads = torch.arange(num_kv_heads) * block_size
    return (first[:, None] + heads).flatten()
