"""Formats against a cache that is not packed, on the same windows, in one pass over the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import torch

from engine.kv.formats import BF16, KVFormat, RecordLayout
from engine.kv.kv_config import layer_formats
from engine.quality.cached import CHUNK_TOKENS, CachedModel, CacheShape
from engine.quality.divergence import Divergence, Quality, log_probs

if TYPE_CHECKING:
    from engine.attention import Backend
    from engine.models.decoder import Decoder

# Windows done, of how many.
Told = Callable[[int, int], None]


class Candidate(msgspec.Struct, frozen=True):
    """A name to print, and each layer's format."""

    name: str
    formats: list[KVFormat]
    shape: CacheShape = CacheShape()

    @classmethod
    def uniform(cls, name: str, form: KVFormat, num_layers: int, shape: CacheShape) -> Candidate:
        return cls(name, [form] * num_layers, shape)

    def layouts(self, head_dim: int) -> list[RecordLayout]:
        """Each layer's, where 16 bits are what is not packed."""
        return [RecordLayout(form, self.shape.block_size, head_dim, 2) for form in self.formats]

    @classmethod
    def from_file(cls, path: str, num_layers: int, shape: CacheShape) -> Candidate:
        """A --kv-config, named by its path. Raises: EngineError."""
        return cls(path, layer_formats("auto", path, num_layers), shape)


class FormatResult(msgspec.Struct, frozen=True):
    """`bits` are of an element in a full, packed page, metadata included, over all layers; `ratio`
    is how many of them take the memory of one page of bf16; `held_bits` are of an element of one
    window as it ends: its sinks and its last page are not packed."""

    name: str
    bits: float
    held_bits: float
    ratio: float
    page_bytes: int
    quality: Quality


class Scored:
    """One candidate under evaluation."""

    def __init__(
        self, candidate: Candidate, decoder: Decoder, backend: Backend, window: int
    ) -> None:
        self.candidate = candidate
        self.model = CachedModel(decoder, backend, candidate.formats, candidate.shape, window)
        self.divergence = Divergence()

    def result(self, decoder: Decoder, window: int) -> FormatResult:
        config, shape = decoder.config, self.candidate.shape
        layouts = self.candidate.layouts(config.head_dim)
        bits = sum(layout.bits_per_element for layout in layouts) / len(layouts)
        num_pages = window // shape.block_size
        num_packed = max(0, num_pages - shape.num_sinks - shape.num_recent) * shape.block_size
        held_bits = (bits * num_packed + 16 * (window - num_packed)) / window
        return FormatResult(
            self.candidate.name,
            bits,
            held_bits,
            16 / bits,
            config.num_kv_heads * sum(layout.num_bytes for layout in layouts),
            self.divergence.quality(),
        )


def evaluate(
    decoder: Decoder,
    backend: Backend,
    candidates: Sequence[Candidate],
    windows: Sequence[list[int]],
    told: Told,
) -> list[FormatResult]:
    """One result a candidate, in order. The reference is this very model, its cache not packed.

    Raises: EngineError if a candidate cannot be packed so.
    """
    length = len(windows[0]) - 1
    plain = [BF16] * decoder.config.num_layers
    reference = CachedModel(decoder, backend, plain, CacheShape(), length)
    scored = [Scored(candidate, decoder, backend, length) for candidate in candidates]
    for done, window in enumerate(windows):
        told(done, len(windows))
        for start in range(0, length, CHUNK_TOKENS):
            tokens = window[start : min(start + CHUNK_TOKENS, length)]
            targets = torch.tensor(window[start + 1 : start + 1 + len(tokens)])
            log_p = log_probs(reference.logits(tokens, start))
            for each in scored:
                each.divergence.add(log_p, each.model.logits(tokens, start), targets)
        for each in scored:
            each.divergence.end_window()
    told(len(windows), len(windows))
    return [each.result(decoder, length) for each in scored]
