"""Tokens from logits without the host: settings and draws of each row are read on the device.

The order is engine/sampling.py's: temperature, min-p, top-k, top-p, equal logits kept alike, tokens
taken in the order of their ids. Every row is read twice: once for the largest logit of each block
of tokens, once for the weights and for the likeliest tokens. What is kept of most rows is decided
among these alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from engine.draws import DRAW
from engine.kernels.blocks import ceil_div, power_of_two
from engine.kernels.candidates import (
    BLOCK,
    CANDIDATES,
    SPLIT,
    choose_kernel,
    gather_kernel,
    heads_kernel,
    maxima_kernel,
)
from engine.kernels.checks import (
    FLOATS,
    expect_contiguous,
    expect_dense_rows,
    expect_dims,
    expect_dtype,
    expect_dtype_in,
    expect_shape,
)
from engine.kernels.launching import launch
from engine.kernels.weights import reference_weights
from engine.kernels.whole_rows import whole_row_kernel
from engine.random_numbers import uniform

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

# Candidates are all tokens as likely as the likeliest of the block that is worse than this share of
# all. If likely ones lie at random, they are some 2 a block: 2,500 of 152,064 tokens.
BETTER_BLOCKS = 7 / 8
# No fused multiply-adds, which round once where the reference rounds twice.
EXACT = {"enable_fp_fusion": False}


class Workspace(NamedTuple):
    """What the kernels of one call tell each other of its rows."""

    block_maxima: Tensor  # (S, blocks) float32
    heads: Tensor  # (S, 4) int32: largest logit's bits, its first token, cutoff, candidates
    masses: Tensor  # (S, splits) int64
    candidates: Tensor  # (S, 2, CANDIDATES) int32: keys, tokens


def _allocate(num_rows: int, vocab_size: int, device: torch.device) -> Workspace:
    num_blocks, num_splits = ceil_div(vocab_size, BLOCK.value), ceil_div(vocab_size, SPLIT.value)
    ints = {"dtype": torch.int32, "device": device}
    return Workspace(
        torch.empty(num_rows, num_blocks, dtype=torch.float32, device=device),
        torch.empty(num_rows, 4, **ints),
        torch.empty(num_rows, num_splits, dtype=torch.int64, device=device),
        torch.empty(num_rows, 2, CANDIDATES.value, **ints),
    )


def sample_rows(logits: Tensor, draws: Tensor) -> Tensor:
    """One token per row of `logits` (S, V), which stay as they are; (S,) int64.

    `draws` (S, 4) int64 are the bytes of a table of engine.draws.DRAW. Each row has a finite logit
    and no NaN. Raises: ValueError or TypeError.
    """
    _check(logits, draws)
    out = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    if len(logits):
        workspace = _allocate(logits.shape[0], logits.shape[1], logits.device)
        _gather(logits, draws.view(torch.int32), workspace)
        _choose(logits, draws, workspace, out)
    return out


def _gather(logits: Tensor, settings: Tensor, workspace: Workspace) -> None:
    """Fills the workspace: heads, candidates and masses of each row."""
    block_maxima, heads, masses, candidates = workspace
    (num_rows, vocab_size), stride = logits.shape, logits.stride(0)
    num_blocks, num_splits = block_maxima.shape[1], masses.shape[1]
    by_split = (num_rows, num_splits)
    launch(
        maxima_kernel,
        by_split,
        logits,
        block_maxima,
        stride,
        vocab_size,
        num_blocks,
        BLOCKS=SPLIT.value // BLOCK.value,
    )
    launch(
        heads_kernel,
        (num_rows,),
        logits,
        settings,
        block_maxima,
        heads,
        stride,
        vocab_size,
        num_blocks,
        math.ceil(num_blocks * BETTER_BLOCKS),
        BLOCKS=power_of_two(num_blocks),
        **EXACT,
    )
    sizes = stride, vocab_size, num_splits
    launch(
        gather_kernel,
        by_split,
        logits,
        settings,
        heads,
        masses,
        candidates,
        *sizes,
        num_warps=16,
        **EXACT,
    )


def _choose(logits: Tensor, draws: Tensor, workspace: Workspace, out: Tensor) -> None:
    """Each row's token, from its candidates where they decide it."""
    _, heads, masses, candidates = workspace
    settings, by_row = draws.view(torch.int32), (len(logits),)
    vocab_size, num_splits = logits.shape[1], masses.shape[1]
    sizes = vocab_size, num_splits, power_of_two(num_splits)
    launch(
        choose_kernel,
        by_row,
        settings,
        draws,
        heads,
        masses,
        candidates,
        out,
        *sizes,
        num_warps=8,
        **EXACT,
    )
    launch(
        whole_row_kernel,
        by_row,
        logits,
        settings,
        draws,
        heads,
        masses,
        out,
        logits.stride(0),
        *sizes,
        num_warps=16,
        **EXACT,
    )


def _check(logits: Tensor, draws: Tensor) -> None:
    expect_dims("logits", logits, "S V")
    expect_dtype_in("logits", logits, FLOATS)
    expect_dense_rows("logits", logits)
    expect_dtype("draws", draws, torch.int64)
    expect_shape("draws", draws, (logits.shape[0], DRAW.itemsize // 8))
    expect_contiguous("draws", draws)


def reference(logits: Tensor, draws: npt.NDArray[np.void]) -> Tensor:
    """sample_rows in torch, by sorting; (S,) int64. Equal to the kernel's token for token."""
    tokens = [
        _reference_draw(row * float(draw["inverse_temperature"]), draw)
        if draw["inverse_temperature"]
        else int(row.argmax())
        for row, draw in zip(logits.float(), draws, strict=True)
    ]
    return torch.tensor(tokens, dtype=torch.int64, device=logits.device)


def _reference_draw(scaled: Tensor, draw: np.void) -> int:
    limits = int(draw["top_k"]), float(draw["top_p"]), float(draw["min_logit"])
    ends = kept_weights(scaled, *limits).cumsum(0)
    total = int(ends[-1])
    share = uniform(int(draw["seed"]), int(draw["position"]))
    return int((ends <= min(int(share * float(total)), total - 1)).sum())


def kept_weights(scaled: Tensor, top_k: int, top_p: float, min_logit: float) -> Tensor:
    """The weight of each of a row's tokens (V,), int64, 0 if it is not kept."""
    below = scaled.max() - scaled
    weights = reference_weights(below)
    order = below.argsort()
    last = torch.tensor(-min_logit, dtype=torch.float32, device=below.device)
    if top_k < len(below):
        last = torch.minimum(last, below[order[top_k - 1]])
    if top_p < 1.0:
        mass = torch.where(below <= last, weights, 0)[order].cumsum(0).double()
        crossing = int((mass < top_p * mass[-1]).sum())
        last = torch.minimum(last, below[order[crossing]])
    return torch.where(below <= last, weights, 0)
