"""x @ weight.T for few rows: a weight goes through the device once, and that is all it takes.

While the kernel before it ends, each program asks for the beginning of its weights, so that the
memory is not at rest between two products. The next kernel may start when the loop is through: its
programs would crowd where there is room first, and the slowest multiprocessor decides.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div
from engine.kernels.checks import (
    expect_contiguous,
    expect_dense_rows,
    expect_dims,
    expect_dtype,
    expect_shape,
)
from engine.kernels.overlap import begin_next, overlap, wait_for_previous

if TYPE_CHECKING:
    from torch import Tensor

MAX_ROWS: Final = 16
HALVES: Final = (torch.bfloat16, torch.float16)
# A line of memory, 128 bytes, in elements of 16 bits.
LINE: tl.constexpr = tl.constexpr(64)


class StreamTiles(NamedTuple):
    """Outputs and inputs per tile, warps, pipeline stages, inputs asked for ahead."""

    outputs: int
    inputs: int
    num_warps: int
    num_stages: int
    ahead: int


def choose_tiles(num_rows: int, num_outputs: int) -> StreamTiles:
    """Tiles for the fewest programs that still fill the device and keep enough bytes in flight.

    By measurement on an H200, 7B shapes: one row 3.39 ms for all products of a step (cuBLAS 3.88),
    16 rows 3.65 ms (4.00).
    """
    if num_rows == 1:
        return StreamTiles(outputs=8, inputs=256, num_warps=4, num_stages=6, ahead=1024)
    if num_outputs < 4096:
        return StreamTiles(outputs=32, inputs=256, num_warps=4, num_stages=6, ahead=1024)
    if num_outputs < 16384:
        return StreamTiles(outputs=64, inputs=128, num_warps=4, num_stages=5, ahead=1024)
    return StreamTiles(outputs=32, inputs=256, num_warps=4, num_stages=4, ahead=1024)


def streams(x: Tensor, weight: Tensor) -> bool:
    """Whether `stream_linear` takes them: 1 to 16 rows in a format of 16 bits."""
    return 0 < x.shape[0] <= MAX_ROWS and weight.dtype in HALVES


@triton.jit
def _ask_for(weight_rows, num_inputs, AHEAD: tl.constexpr):
    """Starts to bring the first AHEAD inputs of rows of a weight into the L2 cache."""
    lines = tl.arange(0, AHEAD // LINE) * LINE
    # Rows shorter than AHEAD ask for their last line again.
    pointers = weight_rows + tl.minimum(lines, num_inputs - 1)[None, :]
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [pointers.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def _finish(
    acc, bias, out, offs_m, offs_n, num_rows, there, stride_out, HAS_BIAS, ADDS: tl.constexpr
):
    """Writes sums (ROWS, OUTPUTS), with the bias, and added to what is there if ADDS."""
    if HAS_BIAS:
        acc += tl.load(bias + offs_n, mask=there, other=0.0).to(tl.float32)[None, :]
    pointers = out + offs_m[:, None] * stride_out + offs_n[None, :]
    mask = (offs_m < num_rows)[:, None] & there[None, :]
    if ADDS:
        acc += tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    tl.store(pointers, acc.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_rows"])
def _stream_kernel(
    x,
    weight,
    bias,
    out,
    num_rows,
    num_outputs,
    num_inputs,
    stride_x,
    stride_out,
    HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
    AHEAD: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Up to ROWS rows on the tensor cores. WHOLE: the inputs are a multiple of INPUTS."""
    offs_n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    offs_k = tl.arange(0, INPUTS)
    offs_m = tl.arange(0, ROWS)
    there = offs_n < num_outputs
    last = tl.minimum(offs_n, num_outputs - 1).to(tl.int64)
    weight_rows = weight + last[:, None] * num_inputs
    x_rows = x + offs_m[:, None] * stride_x
    x_mask = (offs_m < num_rows)[:, None]
    if OVERLAPS:
        _ask_for(weight_rows, num_inputs, AHEAD)
    wait_for_previous(OVERLAPS)
    acc = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for begin in tl.range(0, num_inputs, INPUTS, num_stages=STAGES):
        inputs = (begin + offs_k)[None, :]
        if WHOLE:
            w = tl.load(weight_rows + inputs, eviction_policy="evict_first")
            rows = tl.load(x_rows + inputs, mask=x_mask, other=0.0)
        else:
            inside = inputs < num_inputs
            w = tl.load(weight_rows + inputs, mask=inside, other=0.0)
            rows = tl.load(x_rows + inputs, mask=x_mask & inside, other=0.0)
        acc = tl.dot(rows, tl.trans(w), acc)
    begin_next(OVERLAPS)
    _finish(acc, bias, out, offs_m, offs_n, num_rows, there, stride_out, HAS_BIAS, ADDS)


@triton.jit
def _stream_row_kernel(
    x,
    weight,
    bias,
    out,
    num_outputs,
    num_inputs,
    HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr,
    WHOLE: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
    AHEAD: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """One row without the tensor cores, which would work on 15 rows of zeros."""
    offs_n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    offs_k = tl.arange(0, INPUTS)
    there = offs_n < num_outputs
    last = tl.minimum(offs_n, num_outputs - 1).to(tl.int64)
    weight_rows = weight + last[:, None] * num_inputs
    if OVERLAPS:
        _ask_for(weight_rows, num_inputs, AHEAD)
    wait_for_previous(OVERLAPS)
    acc = tl.zeros((OUTPUTS, INPUTS), tl.float32)
    for begin in tl.range(0, num_inputs, INPUTS, num_stages=STAGES):
        inputs = begin + offs_k
        if WHOLE:
            w = tl.load(weight_rows + inputs[None, :], eviction_policy="evict_first")
            row = tl.load(x + inputs)
        else:
            inside = inputs < num_inputs
            w = tl.load(weight_rows + inputs[None, :], mask=inside[None, :], other=0.0)
            row = tl.load(x + inputs, mask=inside, other=0.0)
        acc += w.to(tl.float32) * row.to(tl.float32)[None, :]
    begin_next(OVERLAPS)
    sums = tl.sum(acc, 1)[None, :]
    _finish(sums, bias, out, tl.arange(0, 1), offs_n, 1, there, 0, HAS_BIAS, ADDS)


def stream_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, (T, N), of x (T, K), T at most 16, and weight (N, K), in their dtype.

    Sums are fp32. Raises: ValueError or TypeError.
    """
    out = torch.empty((x.shape[0], weight.shape[0]), dtype=x.dtype, device=x.device)
    _launch(x, weight, bias, out, adds=False)
    return out


def add_stream_linear(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> None:
    """Adds x @ weight.T + bias to `residual` (T, N), whose rows are dense; rounded once.

    Raises: ValueError or TypeError.
    """
    _launch(x, weight, bias, residual, adds=True)


def _launch(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, adds: bool) -> None:
    _check(x, weight, bias, out)
    num_rows, num_inputs = x.shape
    num_outputs = weight.shape[0]
    tiles = choose_tiles(num_rows, num_outputs)
    grid = (ceil_div(num_outputs, tiles.outputs),)
    addends = weight if bias is None else bias
    cut = {
        "HAS_BIAS": bias is not None,
        "ADDS": adds,
        "WHOLE": num_inputs % tiles.inputs == 0,
        "OUTPUTS": tiles.outputs,
        "INPUTS": tiles.inputs,
        "STAGES": tiles.num_stages,
        "AHEAD": tiles.ahead,
        "num_warps": tiles.num_warps,
        **overlap(x.device),
    }
    if num_rows == 1:
        _stream_row_kernel[grid](x, weight, addends, out, num_outputs, num_inputs, **cut)
    else:
        sizes = (num_rows, num_outputs, num_inputs, x.stride(0), out.stride(0))
        _stream_kernel[grid](x, weight, addends, out, *sizes, ROWS=MAX_ROWS, **cut)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    expect_dims("x", x, "T K")
    expect_dims("weight", weight, "N K")
    if not 0 < x.shape[0] <= MAX_ROWS:
        raise ValueError(f"x must have 1 to {MAX_ROWS} rows, not {x.shape[0]}")
    num_outputs, num_inputs = weight.shape
    expect_shape("x", x, (x.shape[0], num_inputs))
    expect_dense_rows("x", x)
    expect_contiguous("weight", weight)
    expect_dtype("weight", weight, x.dtype)
    expect_shape("out", out, (x.shape[0], num_outputs))
    expect_dense_rows("out", out)
    expect_dtype("out", out, x.dtype)
    if bias is not None:
        expect_shape("bias", bias, (num_outputs,))
        expect_dtype("bias", bias, x.dtype)


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None
) -> Tensor:
    """The same in torch and fp32, unrounded."""
    out = x.float() @ weight.float().t()
    for addend in (bias, residual):
        if addend is not None:
            out = out + addend.float()
    return out
