"""Products of 3 to 64 rows on Hopper: its copy engine brings tiles, its tensor cores take them.

The weight's rows are those of the instruction, of which it wants 64; the input's are its columns,
which may be few. The gate or the sum after the product rides along, as in `stream_linear`.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.launching import launch
from engine.kernels.overlap import begin_next, is_hopper, overlap, wait_for_previous
from engine.kernels.stream_linear import FEW_ROWS, HALVES, check_product, gated_sums
from engine.kernels.stream_linear import MAX_ROWS as MOST_STREAMED

if TYPE_CHECKING:
    from torch import Tensor

MAX_ROWS: Final = 64
# Rows of the weight a program takes, and of each half where gate and up meet.
OUTPUTS: Final = 64
# With as many or fewer, all programs run at once and each needs more bytes in flight.
FEW_OUTPUTS: Final = 8192
# Below this, a product of up to 16 rows is quicker as a stream.
MANY_OUTPUTS: Final = 4096
# Above this, cuBLAS adds a product to the residual as quickly, or more so.
MOST_ADDED: Final = 32
COPY_ALIGNMENT: Final = 16  # bytes, of the rows that the copy engine brings


class Cut(NamedTuple):
    """Inputs per tile, pipeline stages."""

    inputs: int
    num_stages: int


def choose_cut(num_rows: int, num_outputs: int, gated: bool) -> Cut:
    """By measurement on an H200, products of Qwen2.5-7B, us: gate and up of 32 rows 66.6 (cuBLAS
    without the gate 73.5), of 64 rows 68.5 (73.8): three programs fit a multiprocessor, so all
    run at once. With one stage more two fit, and the last ones run alone: 72 and 77.
    """
    if gated:
        return Cut(inputs=128, num_stages=2) if num_rows <= 16 else Cut(inputs=64, num_stages=3)
    return Cut(inputs=128, num_stages=6 if num_outputs <= FEW_OUTPUTS else 3)


def fits_tiles(x: Tensor, weight: Tensor) -> bool:
    """Whether `tiled_linear` takes them and is the quickest that does."""
    few = MOST_STREAMED if weight.shape[0] < MANY_OUTPUTS else FEW_ROWS
    return (
        few < int(x.shape[0]) <= MAX_ROWS
        and weight.dtype in HALVES
        and is_hopper(x.device)
        and _can_copy(x)
        and _can_copy(weight)
    )


def adds_tiles(x: Tensor, weight: Tensor) -> bool:
    """The same of `add_tiled_linear`."""
    return int(x.shape[0]) <= MOST_ADDED and fits_tiles(x, weight)


def _can_copy(rows: Tensor) -> bool:
    stride_bytes = int(rows.stride(0)) * rows.element_size()
    return not stride_bytes % COPY_ALIGNMENT and not rows.data_ptr() % COPY_ALIGNMENT


@triton.jit(do_not_specialize=["num_rows"])
def _tiled_rows_kernel(
    x,
    weight,
    bias,
    out,
    num_rows,
    num_outputs,
    num_inputs,
    stride_out,
    HAS_BIAS: tl.constexpr,
    GATED: tl.constexpr,
    ADDS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    """x and weight are descriptors: what lies beside them is read as 0."""
    first = tl.program_id(0) * OUTPUTS
    wait_for_previous(OVERLAPS)
    acc = tl.zeros((OUTPUTS, ROWS), tl.float32)
    up = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for begin in tl.range(0, num_inputs, INPUTS, num_stages=STAGES):
        rows = x.load([0, begin]).T
        acc = tl.dot(weight.load([first, begin]), rows, acc)
        if GATED:
            up = tl.dot(weight.load([first + num_outputs, begin]), rows, up)
    begin_next(OVERLAPS)
    offs_n = first + tl.arange(0, OUTPUTS)
    offs_m = tl.arange(0, ROWS)
    there = offs_n < num_outputs
    if GATED:
        acc = gated_sums(acc, up, out.dtype.element_ty)
    if HAS_BIAS:
        acc += tl.load(bias + offs_n, mask=there, other=0.0).to(tl.float32)[:, None]
    pointers = out + offs_m[:, None] * stride_out + offs_n[None, :]
    mask = (offs_m < num_rows)[:, None] & there[None, :]
    if ADDS:
        acc += tl.trans(tl.load(pointers, mask=mask, other=0.0)).to(tl.float32)
    tl.store(pointers, tl.trans(acc.to(out.dtype.element_ty)), mask=mask)


def tiled_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gated: bool = False
) -> Tensor:
    """x @ weight.T + bias, (T, N), of x (T, K), T at most 64, and weight (N, K), in their dtype.

    `gated` gives silu(gate) * up, (T, N / 2), of the product [gate | up], which then has no bias.
    Sums are fp32. Rows begin at multiples of 16 bytes. Raises: ValueError or TypeError.
    """
    num_outputs = weight.shape[0] // 2 if gated else weight.shape[0]
    out = torch.empty((x.shape[0], num_outputs), dtype=x.dtype, device=x.device)
    _launch(x, weight, bias, out, gated=gated, adds=False)
    return out


def add_tiled_linear(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> None:
    """Adds x @ weight.T + bias to `residual` (T, N), whose rows are dense; rounded once.

    Raises: ValueError or TypeError.
    """
    _launch(x, weight, bias, residual, gated=False, adds=True)


def _launch(
    x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor, *, gated: bool, adds: bool
) -> None:
    check_product(x, None, weight, bias, out, gated, MAX_ROWS)
    num_rows, num_inputs = x.shape
    cut = choose_cut(num_rows, weight.shape[0], gated)
    rows = max(16, power_of_two(num_rows))
    launch(
        _tiled_rows_kernel,
        (ceil_div(out.shape[1], OUTPUTS),),
        _described("x", x, rows, cut.inputs),
        _described("weight", weight, OUTPUTS, cut.inputs),
        weight if bias is None else bias,
        out,
        num_rows,
        out.shape[1],
        num_inputs,
        out.stride(0),
        HAS_BIAS=bias is not None,
        GATED=gated,
        ADDS=adds,
        ROWS=rows,
        OUTPUTS=OUTPUTS,
        INPUTS=cut.inputs,
        STAGES=cut.num_stages,
        num_warps=4,
        **overlap(x.device),
    )


def _described(name: str, tensor: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """For tiles of so many rows and columns. Raises: ValueError."""
    if not _can_copy(tensor):
        raise ValueError(f"rows of {name} must begin at multiples of {COPY_ALIGNMENT} bytes")
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), [rows, columns])
