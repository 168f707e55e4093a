"""The decoder of all families: what differs between them is in its config and its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from engine.attention import Hidden
from engine.models.config import ModelConfig
from engine.models.rope import rope_tables

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import Backend, LayerPool, NormLinear, ResidualLinear
    from engine.batch import Batch


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. `qkv` gives [q | k | v], `gate_up` silu(gate) * up; both begin with their norm."""

    qkv: NormLinear
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: ResidualLinear
    gate_up: NormLinear
    down: ResidualLinear
    window: int | None


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    embedding: Tensor  # (V, hidden)
    layers: list[LayerWeights]
    head: NormLinear


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
            return self._logits(batch, pools, self._embedded(batch), 0)

    def states(self, batch: Batch, pools: list[LayerPool]) -> list[Hidden]:
        """Copies of what each layer is given, in a pass as `forward`'s."""
        with torch.inference_mode():
            given = [self._embedded(batch).copy()]
            for hidden in self._states(batch, pools, self._embedded(batch), 0):
                given.append(hidden.copy())
            return given[:-1]

    def forward_from(
        self, layer: int, given: Hidden, batch: Batch, pools: list[LayerPool]
    ) -> Tensor:
        """What `forward` gives where this layer is given `given`, of which it takes a copy."""
        with torch.inference_mode():
            return self._logits(batch, pools, given.copy(), layer)

    def _logits(self, batch: Batch, pools: list[LayerPool], hidden: Hidden, first: int) -> Tensor:
        for after in self._states(batch, pools, hidden, first):
            hidden = after
        logits, _ = self._weights.head(hidden)
        return logits

    def _embedded(self, batch: Batch) -> Hidden:
        return Hidden(F.embedding(batch.token_ids, self._weights.embedding))

    def _states(
        self, batch: Batch, pools: list[LayerPool], hidden: Hidden, first: int
    ) -> Iterator[Hidden]:
        """After each layer from `first` on; valid until the next is asked for."""
        backend, config, layers = self._backend, self.config, self._weights.layers
        plan = backend.plan(batch, config.num_heads, config.num_kv_heads, config.head_dim)
        for layer, pool in zip(layers[first:], pools[first:], strict=True):
            x, hidden = self._attention(layer, hidden, pool, plan)
            if layer is layers[-1]:  # past the last attention only the wanted rows go on
                x, hidden = x[batch.logit_rows], hidden.rows(batch.logit_rows)
            hidden = layer.output(x, hidden)
            x, hidden = layer.gate_up(hidden)
            hidden = layer.down(x, hidden)
            yield hidden

    def _attention(
        self, layer: LayerWeights, hidden: Hidden, pool: LayerPool, plan: Any
    ) -> tuple[Tensor, Hidden]:
        """(T, H * D), before the output projection, and the states with nothing pending."""
        backend, eps = self._backend, self.config.rms_eps
        qkv, hidden = layer.qkv(hidden)
        heads = qkv.view(qkv.shape[0], -1, self.config.head_dim)
        q, k, v = heads.split_with_sizes(self._heads, 1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q = backend.rms_norm(q, layer.q_norm, eps)
            k = backend.rms_norm(k, layer.k_norm, eps)
        q = backend.rope_and_write(q, k, v, self._cos, self._sin, pool, plan)
        return backend.attend(q, pool, plan, self._scale, layer.window), hidden
