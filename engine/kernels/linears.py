"""The decoder's matrix products on a CUDA device, with the norms, gates and sums around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F

from engine.attention import Hidden
from engine.kernels.norm import add_rms_norm, rms_norm
from engine.kernels.silu_mul import silu_mul
from engine.kernels.stream_linear import Norm, add_stream_linear, norms, stream_linear, streams

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
        residual, norm = hidden.residual, Norm(self.norm_weight, self.eps)
        gated = self.gated and self.bias is None
        if hidden.pending is None and streams(residual, self.weight) and norms(residual):
            product = stream_linear(residual, self.weight, self.bias, norm=norm, gated=gated)
            return self._gate(product, gated), Hidden(residual)
        normed = self._norm(hidden)
        if streams(normed, self.weight):
            product = stream_linear(normed, self.weight, self.bias, gated=gated)
            return self._gate(product, gated), Hidden(residual)
        return self._gate(F.linear(normed, self.weight, self.bias), False), Hidden(residual)

    def _norm(self, hidden: Hidden) -> Tensor:
        if hidden.pending is None:
            return rms_norm(hidden.residual, self.norm_weight, self.eps)
        return add_rms_norm(hidden.pending, hidden.residual, self.norm_weight, self.eps)[0]

    def _gate(self, product: Tensor, is_gated: bool) -> Tensor:
        return silu_mul(product) if self.gated and not is_gated else product


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
