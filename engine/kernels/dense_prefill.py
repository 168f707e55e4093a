"""Attention of a long chunk of a prompt, by cuDNN over dense copies of its K and V.

On an H200 cuDNN makes 630 TFLOP/s of 16,000 tokens and 555 of 8,192 where our kernel makes 340, and
the copies are a twentieth of it. Below MIN_TOKENS the two are even. Its causal mask begins with the
first key, so a chunk after a prefix has rows before it that are computed for nothing: with a prefix
as long as the chunk, a third more than is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.kernels.blocks import ceil_div

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool
    from engine.batch import Batch

MIN_TOKENS: Final = 4096
MAX_CONTEXT: Final = 2  # chunks
MAX_HEAD_DIM: Final = 128
BACKENDS: Final = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]


class DensePrompt(NamedTuple):
    """A sequence of a batch: its rows of the token axis, and its row of the block tables."""

    sequence: int
    start: int
    num_tokens: int
    context: int  # tokens, the chunk's own among them
    table: Tensor  # (pages or more,) int32

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.num_tokens)


def padded(num_tokens: int) -> int:
    """The size that cuDNN is asked for: it plans for 70 ms whenever it meets a new one."""
    step = 512 if num_tokens <= 8192 else 1024 if num_tokens <= 16384 else 2048
    return ceil_div(num_tokens, step) * step


def is_served(num_tokens: int, head_dim: int, dtype: torch.dtype) -> bool:
    """Whether a chunk of so many tokens is for cuDNN."""
    fits = head_dim <= MAX_HEAD_DIM and head_dim % 8 == 0 and dtype.itemsize == 2
    return fits and num_tokens >= MIN_TOKENS


def sizes(num_tokens: int, head_dim: int, dtype: torch.dtype) -> Iterator[int]:
    """All that contexts are padded to whose chunks have up to `num_tokens`."""
    size = padded(MIN_TOKENS)
    while is_served(num_tokens, head_dim, dtype) and size <= padded(MAX_CONTEXT * num_tokens):
        yield size
        size = padded(size + 1)


def dense_prompts(batch: Batch, head_dim: int, dtype: torch.dtype) -> list[DensePrompt]:
    """Those of a batch; none if its lengths are not on the host."""
    starts = [0, *accumulate(batch.query_lens)]
    lens = zip(batch.query_lens, batch.context_lens, strict=True)
    return [
        DensePrompt(place, starts[place], new, context, batch.block_tables[place])
        for place, (new, context) in enumerate(lens)
        if context <= MAX_CONTEXT * new and is_served(new, head_dim, dtype)
    ]


def attend_prompt(q: Tensor, pool: LayerPool, prompt: DensePrompt, scale: float) -> Tensor:
    """Causal attention of a chunk, its rows of `q` (T, H, D), over its pages; (its T, H * D)."""
    size = padded(prompt.context)
    k, v = (_dense(part, prompt, size) for part in pool)
    own = slice(prompt.context - prompt.num_tokens, prompt.context)
    mine = q[prompt.rows]
    if size > prompt.num_tokens:
        mine = q.new_empty(size, *q.shape[1:])
        mine[own] = q[prompt.rows]
    with sdpa_kernel(BACKENDS, set_priority=True):
        out = F.scaled_dot_product_attention(
            mine.transpose(0, 1)[None], k, v, is_causal=True, scale=scale, enable_gqa=True
        )
    return out[0, :, own].transpose(0, 1).flatten(1)


def _dense(part: Tensor, prompt: DensePrompt, size: int) -> Tensor:
    """(1, H_kv, size, D) from a pool's pages (num_pages, H_kv, block_size, D)."""
    block_size = part.shape[2]
    pages = prompt.table[: ceil_div(prompt.context, block_size)]
    pages = F.pad(pages, (0, ceil_div(size, block_size) - len(pages)))
    rows = part.transpose(0, 1).index_select(1, pages).flatten(1, 2)
    # What no token was written to may be no number, and nothing times that is none either.
    rows[:, prompt.context :] = 0
    return rows[None, :, :size]
