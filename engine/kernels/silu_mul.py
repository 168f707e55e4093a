"""The gate of the feed-forward block: silu(gate) * up.

Source: Shazeer, 2020 (SwiGLU). Memory bound: three elements moved for each one made.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div
from engine.kernels.checks import FLOATS, expect_dense_rows, expect_dims, expect_dtype_in
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, overlap, wait_for_previous

if TYPE_CHECKING:
    from torch import Tensor

# Elements per program: 128 threads with 16 bytes of gate and of up each.
BLOCK = 1024


@triton.jit
def _silu_mul_kernel(
    gate_up, out, stride_token, WIDTH: tl.constexpr, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr
):
    begin_next(OVERLAPS)
    wait_for_previous(OVERLAPS)
    token = tl.program_id(0).to(tl.int64)
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < WIDTH
    ptrs = gate_up + token * stride_token + offs
    gate = tl.load(ptrs, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(ptrs + WIDTH, mask=mask, other=0.0).to(tl.float32)
    result = gate * tl.sigmoid(gate) * up
    tl.store(out + token * WIDTH + offs, result.to(out.dtype.element_ty), mask=mask)


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) * up (T, I), contiguous, for gate_up (T, 2 I) = [gate | up], dense in its rows.

    Computed in fp32, rounded once. Raises: ValueError or TypeError.
    """
    expect_dims("gate_up", gate_up, "T 2I")
    expect_dtype_in("gate_up", gate_up, FLOATS)
    expect_dense_rows("gate_up", gate_up)
    num_tokens, both = gate_up.shape
    if both % 2:
        raise ValueError(f"gate_up must have an even width, not {both}")
    out = torch.empty((num_tokens, both // 2), dtype=gate_up.dtype, device=gate_up.device)
    if num_tokens:
        launch(
            _silu_mul_kernel,
            (num_tokens, ceil_div(both // 2, BLOCK)),
            gate_up,
            out,
            gate_up.stride(0),
            WIDTH=both // 2,
            BLOCK=BLOCK,
            num_warps=4,
            **overlap(out.device),
        )
    return out


def reference(gate_up: Tensor) -> Tensor:
    """The same in torch and fp32."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up
