"""The decoder of all families: what differs between them is in its config and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from engine.models.config import ModelConfig
from engine.models.rope import rope_tables

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import Backend, LayerPool, Linear
    from engine.batch import Batch


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. `qkv` gives [q | k | v], `gate_up` silu(gate) * up."""

    input_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear
    window: int | None


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    embedding: Tensor  # (V, hidden)
    layers: list[LayerWeights]
    norm: Tensor
    head: Linear


class Decoder:
    """A stack of attention and MLP layers with residual connections, RMS norm before each."""

    def __init__(self, config: ModelConfig, backend: Backend, weights: DecoderWeights) -> None:
        self.config = config
        self._backend = backend
        self._weights = weights
        self._cos, self._sin = rope_tables(config, backend.device)
        self._scale = config.head_dim**-0.5
        self._heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]

    def forward(self, batch: Batch, pools: list[LayerPool]) -> Tensor:
        """Logits (R, V) after the tokens `batch.logit_rows`; writes K and V of all tokens.

        `pools` has one entry per layer.
        """
        with torch.inference_mode():
            return self._forward(batch, pools)

    def _forward(self, batch: Batch, pools: list[LayerPool]) -> Tensor:
        backend, config, weights = self._backend, self.config, self._weights
        plan = backend.plan(batch, config.num_heads, config.num_kv_heads, config.head_dim)
        residual = F.embedding(batch.token_ids, weights.embedding)
        x = backend.rms_norm(residual, weights.layers[0].input_norm, config.rms_eps)
        norms = [layer.input_norm for layer in weights.layers[1:]]
        for layer, next_norm, pool in zip(weights.layers, [*norms, None], pools, strict=True):
            x = self._attention(layer, x, pool, plan)
            if next_norm is None:  # past the last attention only the wanted rows go on
                x, residual = x[batch.logit_rows], residual[batch.logit_rows]
                next_norm = weights.norm
            x, residual = backend.add_rms_norm(
                layer.output(x), residual, layer.mlp_norm, config.rms_eps
            )
            x = layer.down(layer.gate_up(x))
            x, residual = backend.add_rms_norm(x, residual, next_norm, config.rms_eps)
        return weights.head(x)

    def _attention(self, layer: LayerWeights, x: Tensor, pool: LayerPool, plan: Any) -> Tensor:
        """(T, H * D), before the output projection."""
        backend, eps = self._backend, self.config.rms_eps
        heads = layer.qkv(x).view(x.shape[0], -1, self.config.head_dim)
        q, k, v = heads.split_with_sizes(self._heads, 1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q = backend.rms_norm(q, layer.q_norm, eps)
            k = backend.rms_norm(k, layer.k_norm, eps)
        q = backend.rope_and_write(q, k, v, self._cos, self._sin, pool, plan)
        return backend.attend(q, pool, plan, self._scale, layer.window)
