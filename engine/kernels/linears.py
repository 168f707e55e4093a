"""The decoder's matrix products on a CUDA device, with the norms, gates and sums around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F

from engine.attention import Hidden
from engine.kernels.norm import add_rms_norm, rms_norm
from engine.kernels.silu_mul import silu_mul
from engine.kernels.stream_linear import add_stream_linear, stream_linear, streams

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class NormProduct:
    """rms_norm(hidden) @ weight.T + bias; [gate | up] of it goes through silu_mul if `gated`."""

    norm_weight: Tensor
    weight: Tensor
    bias: Tensor | None
    eps: float
    gated: bool

    def __call__(self, hidden: Hidden) -> tuple[Tensor, Hidden]:
        residual = hidden.residual
        if hidden.pending is None:
            normed = rms_norm(residual, self.norm_weight, self.eps)
        else:
            normed, _ = add_rms_norm(hidden.pending, residual, self.norm_weight, self.eps)
        if streams(normed, self.weight):
            product = stream_linear(normed, self.weight, self.bias)
        else:
            product = F.linear(normed, self.weight, self.bias)
        return (silu_mul(product) if self.gated else product), Hidden(residual)


@dataclass(frozen=True, slots=True)
class ResidualProduct:
    """hidden + x @ weight.T + bias, written into the residual: the sum is rounded once."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, hidden: Hidden) -> Hidden:
        if streams(x, self.weight):
            add_stream_linear(x, self.weight, self.bias, hidden.residual)
            return hidden
        if self.bias is not None:
            return Hidden(hidden.residual, F.linear(x, self.weight, self.bias))
        hidden.residual.addmm_(x, self.weight.t())
        return hidden
