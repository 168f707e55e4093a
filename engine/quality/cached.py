"""A model that reads a text through a KV cache of some formats, as decoding would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from engine.kv.allocate import allocate_pools
from engine.kv.packed_plan import PackedPlan, packed_plan
from engine.quality.lone import LoneSequence

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import Backend, Hidden
    from engine.batch import Batch
    from engine.kv.formats import KVFormat
    from engine.models.decoder import Decoder

CHUNK_TOKENS: Final = 256


class CacheShape(NamedTuple):
    """What is common to all layers: a page's tokens, how many first pages stay unpacked, and how
    many before its own a token sees as they were written, which the engine itself does not do."""

    block_size: int = 64
    num_sinks: int = 1
    num_recent: int = 0


class CachedModel:
    """Computes logits of one window at a time; the cache forgets the one before.

    What a token sees does not depend on how the window is cut: pages before its own as their
    records have them, its own as it was written. So a pass over many tokens gives what decoding
    them one by one gives.

    Raises: EngineError if a head cannot be packed so.
    """

    def __init__(
        self,
        decoder: Decoder,
        backend: Backend,
        formats: Sequence[KVFormat],
        shape: CacheShape,
        max_tokens: int,
        chunk: int = CHUNK_TOKENS,
    ) -> None:
        config = decoder.config
        self.packed: PackedPlan | None = packed_plan(
            formats,
            config.num_kv_heads,
            config.head_dim,
            shape.block_size,
            backend.dtype.itemsize,
            shape.num_sinks,
            chunk,
        )
        self._decoder = decoder
        self._shape = shape
        self._sequence = LoneSequence(
            max_tokens,
            shape.block_size,
            chunk,
            shape.num_sinks,
            self.packed is not None,
            shape.num_recent,
        )
        self._pools = allocate_pools(
            backend,
            config,
            shape.block_size,
            self.packed,
            self._sequence.num_wide,
            self._sequence.num_packed,
        )

    def logits(self, token_ids: list[int], start: int) -> Tensor:
        """(T, V) after each of these tokens, which stand at `start`; those before were given."""
        if not self._shape.num_recent:
            return self._pass(token_ids, start)
        size, end = self._shape.block_size, start + len(token_ids)
        cuts = [start, *range(start // size * size + size, end, size), end]
        passes = [self._pass(token_ids[a - start : b - start], a) for a, b in pairwise(cuts)]
        return torch.cat(passes)

    def _pass(self, token_ids: list[int], start: int) -> Tensor:
        return self._decoder.forward(self._sequence.batch(token_ids, start), self._pools)

    def batch(self, token_ids: list[int], every: int = 1) -> Batch:
        """A pass over a window's first tokens, with the logits of every so many of them."""
        batch = self._sequence.batch(token_ids, 0)
        return replace(batch, logit_rows=batch.logit_rows[every - 1 :: every])

    def states(self, batch: Batch) -> list[Hidden]:
        """What each layer is given."""
        return self._decoder.states(batch, self._pools)

    def logits_from(self, layer: int, given: Hidden, batch: Batch) -> Tensor:
        """As if the layers before this one had given it `given`."""
        return self._decoder.forward_from(layer, given, batch, self._pools)
