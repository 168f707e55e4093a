"""Reads a tensor once, as fast as the memory gives it: the ceiling that other kernels are held to.

Each program sums one stretch of it; without a use of what was read, there would be no read.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.checks import FLOATS, expect_dtype_in
from engine.kernels.launching import launch

if TYPE_CHECKING:
    from torch import Tensor

# Elements a program has in flight at once, 64 bytes a thread in 16-bit formats, and how often.
BLOCK = 8192
NUM_BLOCKS = 16
NUM_WARPS = 8


@triton.jit
def _stream_read_kernel(data, out, NUM_BLOCKS: tl.constexpr, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * (NUM_BLOCKS * BLOCK)
    offs = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for block in range(NUM_BLOCKS):
        total += tl.load(data + first + block * BLOCK + offs).to(tl.float32)
    tl.store(out + tl.program_id(0), tl.sum(total))


def stream_read(data: Tensor) -> Tensor:
    """The fp32 sums of `data` (n,) over stretches of NUM_BLOCKS * BLOCK elements, which divide n.

    Raises: ValueError or TypeError.
    """
    expect_dtype_in("data", data, FLOATS)
    stretch = NUM_BLOCKS * BLOCK
    if data.dim() != 1 or not data.is_contiguous() or data.numel() % stretch:
        raise ValueError(f"data must be contiguous, (n,) with n a multiple of {stretch}")
    out = torch.empty(data.numel() // stretch, dtype=torch.float32, device=data.device)
    launch(_stream_read_kernel, out.shape, data, out, NUM_BLOCKS, BLOCK, num_warps=NUM_WARPS)
    return out
