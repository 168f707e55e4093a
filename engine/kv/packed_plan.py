"""What packed pages are to be like: each layer's record, and how many pages stay wide."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from engine.kv.formats import KVFormat, RecordLayout


class PackedPlan(NamedTuple):
    """`layouts` has one entry per layer. Page i < `num_sinks` of a sequence stays wide.

    A sequence holds up to `num_sinks` + 2 wide pages between steps, and a step takes
    `num_step_pages` more for the prompts in it.
    """

    layouts: tuple[RecordLayout, ...]
    num_kv_heads: int
    num_sinks: int
    num_step_pages: int

    @property
    def page_bytes(self) -> int:
        """Of one packed page in all layers."""
        return self.num_kv_heads * sum(layout.num_bytes for layout in self.layouts)

    @property
    def wide_page_bytes(self) -> int:
        first = self.layouts[0]
        elements = 2 * first.block_size * first.head_dim * self.num_kv_heads
        return elements * first.dtype_bytes * len(self.layouts)

    def turned_back_bytes(self, num_tokens: int) -> int:
        """Of one layer's pages of a sequence while they are not packed."""
        first = self.layouts[0]
        return -(-num_tokens // first.block_size) * (self.wide_page_bytes // len(self.layouts))

    @property
    def num_seat_pages(self) -> int:
        return self.num_sinks + 2

    def num_wide_for(self, num_seqs: int) -> int:
        """As many as `num_seqs` running sequences ever need at once."""
        return num_seqs * self.num_seat_pages + self.num_step_pages

    def num_seqs_with(self, num_wide: int) -> int:
        """How many sequences may run with so many."""
        return (num_wide - self.num_step_pages) // self.num_seat_pages

    @property
    def root(self) -> bytes:
        """Differs where the same tokens would be stored in other bits."""
        formats = [layout.format for layout in self.layouts]
        facts = msgspec.json.encode((formats, self.num_sinks, self.layouts[0].block_size))
        return blake2b(facts, digest_size=16).digest()


def packed_plan(
    formats: Sequence[KVFormat],
    num_kv_heads: int,
    head_dim: int,
    block_size: int,
    dtype_bytes: int,
    num_sinks: int,
    num_step_tokens: int,
) -> PackedPlan | None:
    """None where no layer is packed. `num_step_tokens` is what steps under way compute at most.

    Raises: EngineError if a head cannot be packed so.
    """
    if not any(form.is_packed for form in formats):
        return None
    for form in formats:
        form.key.check(block_size, head_dim)
        form.value.check(block_size, head_dim)
    layouts = tuple(RecordLayout(form, block_size, head_dim, dtype_bytes) for form in formats)
    return PackedPlan(layouts, num_kv_heads, num_sinks, -(-num_step_tokens // block_size))
