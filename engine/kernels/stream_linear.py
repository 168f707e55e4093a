"""Products of few rows: a weight goes through the device once, and that is all it takes.

The norm before a product, and the gate or the sum after it, ride along. A kernel lets the next one
start only when its loop is through: the next one's programs would crowd where there is room first,
and the slowest multiprocessor decides.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.checks import (
    expect_contiguous,
    expect_dense_rows,
    expect_dims,
    expect_dtype,
    expect_shape,
)
from engine.kernels.launching import launch
from engine.kernels.norm import reference as norm_reference
from engine.kernels.overlap import begin_next, overlap, wait_for_previous
from engine.kernels.silu_mul import reference as silu_reference

if TYPE_CHECKING:
    from torch import Tensor

# What a tensor-core instruction takes at the least, and the kernel at the most.
MAX_ROWS: Final = 16
# Up to here by multiplications and additions: the tensor cores work on no fewer than 16 rows.
FEW_ROWS: Final = 2
HALVES: Final = (torch.bfloat16, torch.float16)


class StreamTiles(NamedTuple):
    """Rows of the weight and inputs per tile, warps, pipeline stages."""

    outputs: int
    inputs: int
    num_warps: int
    num_stages: int


def choose_tiles(num_rows: int, num_outputs: int) -> StreamTiles:
    """Tiles for the fewest programs that still fill the device and keep enough bytes in flight.

    By measurement on an H200, a 7B model's whole step in a graph: one row 3.76 ms (with cuBLAS
    4.32), 2 rows 3.87, 4 rows 4.00 (4.41), 8 rows 4.04, 16 rows 4.10 (4.50). Four rows without the
    tensor cores take 4.73, 32 rows with them 5.0 (with cuBLAS 4.69).
    """
    if num_rows <= FEW_ROWS:
        return StreamTiles(outputs=8, inputs=256, num_warps=2, num_stages=6)
    if num_outputs < 4096:
        return StreamTiles(outputs=32, inputs=256, num_warps=4, num_stages=6)
    if num_outputs < 16384:
        return StreamTiles(outputs=64, inputs=128, num_warps=4, num_stages=5)
    return StreamTiles(outputs=32, inputs=256, num_warps=4, num_stages=4)


class Norm(NamedTuple):
    """The root-mean-square norm of the rows before a product: (K,) and its epsilon."""

    weight: Tensor
    eps: float


def streams(x: Tensor, weight: Tensor) -> bool:
    """Whether `stream_linear` takes them: 1 to 16 rows in a format of 16 bits."""
    return 0 < x.shape[0] <= MAX_ROWS and weight.dtype in HALVES


def norms(x: Tensor) -> bool:
    """Whether `stream_linear` can take a norm along: it costs more than it saves for many rows."""
    return int(x.shape[0]) <= FEW_ROWS


@triton.jit
def _weight_rows(weight, num_outputs, num_inputs, GATED: tl.constexpr, OUTPUTS: tl.constexpr):
    """Pointers (OUTPUTS,) to the program's rows of the weight; gates and ups take turns."""
    first = tl.program_id(0) * OUTPUTS
    rows = first + tl.arange(0, OUTPUTS)
    if GATED:
        rows = rows // 2 + rows % 2 * num_outputs
        rows = tl.minimum(rows, 2 * num_outputs - 1)
    else:
        rows = tl.minimum(rows, num_outputs - 1)
    return weight + rows.to(tl.int64) * num_inputs


@triton.jit
def gated_sums(gate, up, KIND: tl.constexpr):
    """silu(gate) * up of two products in fp32, each rounded as one that is written would be."""
    gate = gate.to(KIND).to(tl.float32)
    return gate * tl.sigmoid(gate) * up.to(KIND).to(tl.float32)


@triton.jit
def _finish(
    sums,
    bias,
    out,
    num_rows,
    num_outputs,
    stride_out,
    HAS_BIAS: tl.constexpr,
    GATED: tl.constexpr,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """Writes sums (ROWS, OUTPUTS): silu(gate) * up, with the bias, or added to what is there."""
    if GATED:
        gate, up = tl.split(tl.reshape(sums, (ROWS, OUTPUTS // 2, 2)))
        sums = gated_sums(gate, up, out.dtype.element_ty)
        offs_n = tl.program_id(0) * (OUTPUTS // 2) + tl.arange(0, OUTPUTS // 2)
    else:
        offs_n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    offs_m = tl.arange(0, ROWS)
    there = offs_n < num_outputs
    pointers = out + offs_m[:, None] * stride_out + offs_n[None, :]
    mask = (offs_m < num_rows)[:, None] & there[None, :]
    if HAS_BIAS:
        sums += tl.load(bias + offs_n, mask=there, other=0.0).to(tl.float32)[None, :]
    if ADDS:
        sums += tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    tl.store(pointers, sums.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_rows", "eps"])
def _few_rows_kernel(
    x,
    norm_weight,
    weight,
    bias,
    out,
    num_rows,
    num_outputs,
    num_inputs,
    stride_x,
    stride_out,
    eps,
    NORMS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    GATED: tl.constexpr,
    ADDS: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """One or two rows. WHOLE: the inputs are a multiple of INPUTS."""
    weight_rows = _weight_rows(weight, num_outputs, num_inputs, GATED, OUTPUTS)[None, :, None]
    offs_m = tl.arange(0, ROWS)
    x_rows = (x + offs_m * stride_x)[:, None, None]
    x_mask = (offs_m < num_rows)[:, None, None]
    offs_k = tl.arange(0, INPUTS)[None, None, :]
    wait_for_previous(OVERLAPS)
    acc = tl.zeros((ROWS, OUTPUTS, INPUTS), tl.float32)
    squares = tl.zeros((ROWS, 1, INPUTS), tl.float32)
    for begin in tl.range(0, num_inputs, INPUTS, num_stages=STAGES):
        inputs = begin + offs_k
        if WHOLE:
            w = tl.load(weight_rows + inputs, eviction_policy="evict_first")
            rows = tl.load(x_rows + inputs, mask=x_mask, other=0.0).to(tl.float32)
        else:
            inside = inputs < num_inputs
            w = tl.load(weight_rows + inputs, mask=inside, other=0.0)
            rows = tl.load(x_rows + inputs, mask=x_mask & inside, other=0.0).to(tl.float32)
        if NORMS:
            squares += rows * rows
            scale = tl.load(norm_weight + inputs, mask=inputs < num_inputs, other=0.0)
            rows *= scale.to(tl.float32)
        acc += w.to(tl.float32) * rows
    begin_next(OVERLAPS)
    sums = tl.sum(acc, 2)
    if NORMS:
        sums *= tl.rsqrt(tl.sum(squares, 2) / num_inputs + eps)
    _finish(
        sums, bias, out, num_rows, num_outputs, stride_out, HAS_BIAS, GATED, ADDS, ROWS, OUTPUTS
    )


@triton.jit(do_not_specialize=["num_rows"])
def _rows_kernel(
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
    GATED: tl.constexpr,
    ADDS: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """Up to ROWS rows on the tensor cores. WHOLE: the inputs are a multiple of INPUTS."""
    weight_rows = _weight_rows(weight, num_outputs, num_inputs, GATED, OUTPUTS)[:, None]
    offs_m = tl.arange(0, ROWS)
    x_rows = (x + offs_m * stride_x)[:, None]
    x_mask = (offs_m < num_rows)[:, None]
    offs_k = tl.arange(0, INPUTS)[None, :]
    wait_for_previous(OVERLAPS)
    acc = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for begin in tl.range(0, num_inputs, INPUTS, num_stages=STAGES):
        inputs = begin + offs_k
        if WHOLE:
            w = tl.load(weight_rows + inputs, eviction_policy="evict_first")
            rows = tl.load(x_rows + inputs, mask=x_mask, other=0.0)
        else:
            inside = inputs < num_inputs
            w = tl.load(weight_rows + inputs, mask=inside, other=0.0)
            rows = tl.load(x_rows + inputs, mask=x_mask & inside, other=0.0)
        acc = tl.dot(rows, tl.trans(w), acc)
    begin_next(OVERLAPS)
    _finish(acc, bias, out, num_rows, num_outputs, stride_out, HAS_BIAS, GATED, ADDS, ROWS, OUTPUTS)


def stream_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm: Norm | None = None,
    gated: bool = False,
) -> Tensor:
    """x @ weight.T + bias, (T, N), of x (T, K), T at most 16, and weight (N, K), in their dtype.

    With `norm` (T at most 2) x is normalized first; `gated` gives silu(gate) * up, (T, N / 2), of
    the product [gate | up], which then has no bias. Sums are fp32. Raises: ValueError or TypeError.
    """
    num_outputs = weight.shape[0] // 2 if gated else weight.shape[0]
    out = torch.empty((x.shape[0], num_outputs), dtype=x.dtype, device=x.device)
    _launch(x, norm, weight, bias, out, gated=gated, adds=False)
    return out


def add_stream_linear(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> None:
    """Adds x @ weight.T + bias to `residual` (T, N), whose rows are dense; rounded once.

    Raises: ValueError or TypeError.
    """
    _launch(x, None, weight, bias, residual, gated=False, adds=True)


def _launch(
    x: Tensor,
    norm: Norm | None,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    *,
    gated: bool,
    adds: bool,
) -> None:
    most = MAX_ROWS if norm is None else FEW_ROWS
    check_product(x, norm, weight, bias, out, gated, most)
    num_rows, num_inputs = x.shape
    tiles = choose_tiles(num_rows, weight.shape[0])
    grid = (ceil_div(weight.shape[0], tiles.outputs),)
    addends = weight if bias is None else bias
    sizes = (num_rows, out.shape[1], num_inputs, x.stride(0), out.stride(0))
    cut = {
        "HAS_BIAS": bias is not None,
        "GATED": gated,
        "ADDS": adds,
        "WHOLE": num_inputs % tiles.inputs == 0,
        "OUTPUTS": tiles.outputs,
        "INPUTS": tiles.inputs,
        "STAGES": tiles.num_stages,
        "num_warps": tiles.num_warps,
        **overlap(x.device),
    }
    if num_rows <= FEW_ROWS:
        scales, eps = (weight, 0.0) if norm is None else norm
        cut |= {"NORMS": norm is not None, "ROWS": power_of_two(num_rows)}
        launch(_few_rows_kernel, grid, x, scales, weight, addends, out, *sizes, eps, **cut)
    else:
        launch(_rows_kernel, grid, x, weight, addends, out, *sizes, ROWS=MAX_ROWS, **cut)


def check_product(
    x: Tensor,
    norm: Norm | None,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor,
    gated: bool,
    most: int,
) -> None:
    """Of a product of at most `most` rows. Raises: ValueError or TypeError."""
    expect_dims("x", x, "T K")
    expect_dims("weight", weight, "N K")
    if not 0 < x.shape[0] <= most:
        raise ValueError(f"x must have 1 to {most} rows, not {x.shape[0]}")
    num_outputs, num_inputs = weight.shape
    if gated and (num_outputs % 2 or bias is not None):
        raise ValueError("a gated product has an even width and no bias")
    expect_shape("x", x, (x.shape[0], num_inputs))
    expect_dense_rows("x", x)
    expect_contiguous("weight", weight)
    expect_dtype("weight", weight, x.dtype)
    expect_shape("out", out, (x.shape[0], num_outputs // 2 if gated else num_outputs))
    expect_dense_rows("out", out)
    expect_dtype("out", out, x.dtype)
    for name, vector, size in (
        ("bias", bias, num_outputs),
        ("norm.weight", norm and norm.weight, num_inputs),
    ):
        if vector is not None:
            expect_shape(name, vector, (size,))
            expect_contiguous(name, vector)


def reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    norm: Norm | None = None,
    gated: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """The same in torch and fp32, unrounded."""
    rows = x.float() if norm is None else norm_reference(x, *norm)
    out = rows @ weight.float().t()
    for addend in (bias, residual):
        if addend is not None:
            out = out + addend.float()
    return silu_reference(out) if gated else out
