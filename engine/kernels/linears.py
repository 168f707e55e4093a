"""The decoder's matrix products on a CUDA device, with the norms, gates and sums around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F

from engine.attention import Hidden
from engine.kernels.norm import add_rms_norm, rms_norm
from engine.kernels.silu_mul import silu_mul
from engine.kernels.stream_linear import Norm, add_stream_linear, norms, stream_linear, streams
from engine.kernels.tiled_linear import add_tiled_linear, adds_tiles, fits_tiles, tiled_linear

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
        if hidden.pending is None and streams(residual, self.weight) and norms(residual):
            gates = self._gates_within
            product = stream_linear(residual, self.weight, self.bias, norm=norm, gated=gates)
            return self._gate(product, gates), Hidden(residual)
        return self._product(self._norm(hidden)), Hidden(residual)

    @property
    def _gates_within(self) -> bool:
        """Whether a kernel of ours takes the gate along."""
        return self.gated and self.bias is None

    def _norm(self, hidden: Hidden) -> Tensor:
        if hidden.pending is None:
            return rms_norm(hidden.residual, self.norm_weight, self.eps)
        return add_rms_norm(hidden.pending, hidden.residual, self.norm_weight, self.eps)[0]

    def _product(self, x: Tensor) -> Tensor:
        gates = self._gates_within
        if fits_tiles(x, self.weight):
            return self._gate(tiled_linear(x, self.weight, self.bias, gated=gates), gates)
        if streams(x, self.weight):
            return self._gate(stream_linear(x, self.weight, self.bias, gated=gates), gates)
        return self._gate(F.linear(x, self.weight, self.bias), False)

    def _gate(self, product: Tensor, is_gated: bool) -> Tensor:
        return silu_mul(product) if self.gated and not is_gated else product


@dataclass(frozen=True, slots=True)
class ResidualProduct:
    """hidden + x @ weight.T + bias, written into the residual: the sum is rounded once."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, hidden: Hidden) -> Hidden:
        if adds_tiles(x, self.weight):
            add_tiled_linear(x, self.weight, self.bias, hidden.residual)
        elif streams(x, self.weight):
            add_stream_linear(x, self.weight, self.bias, hidden.residual)
        elif self.bias is None:
            hidden.residual.addmm_(x, self.weight.t())
        else:
            return Hidden(hidden.residual, F.linear(x, self.weight, self.bias))
        return hidden
