"""Attention of a mixed batch on a CPU: decoding sequences in groups, prefill chunks one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from engine.cpu.pages import WORD

if TYPE_CHECKING:
    from torch import Tensor

    from engine.batch import Batch
    from engine.cpu.pages import CpuPool

# Padding that a group may hold: on two cores a further group costs about as much as 400 tokens
# of SmolLM2 (35 us a layer).
PADDING_TOKENS = 512
# What a group may gather, so that attention still finds it in the cache: 32 sequences of 208
# tokens take 30 ms a step in one group and 24 ms in groups of 8 (SmolLM2, 2 MiB of L2 a core).
GROUP_BYTES = 3 << 19


class Span(NamedTuple):
    """The cached tokens that a sequence's queries may see, from the start of page `first_page`.

    `sequence` is its number in the batch, `first_page` counts within its block table.
    """

    sequence: int
    first_page: int
    length: int


class Scratch:
    """Memory for gathered pages, kept from layer to layer: fresh memory costs a page fault each.

    All parts of a batch share it, one after another.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._buffer = torch.empty(0, dtype=dtype)

    def take(self, num_rows: int, width: int) -> Tensor:
        """(num_rows, width), overwritten by the next taker."""
        size = num_rows * width
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size + size // 2, dtype=self._buffer.dtype)
        return self._buffer[:size].view(num_rows, width)


class Gathered(NamedTuple):
    """Pages copied side by side: `wanted` of a pool go to `found`, of which k and v are views."""

    wanted: Tensor  # (S * H_kv * P,) rows of CpuPool.pages
    found: Tensor  # (S * H_kv * P, words), scratch memory
    k: Tensor  # (S, H_kv, tokens, D)
    v: Tensor

    def fill(self, pool: CpuPool) -> None:
        torch.index_select(pool.pages, 0, self.wanted, out=self.found)


@dataclass(slots=True)
class DecodeGroup:
    """Sequences with one query each and about as many tokens, padded to the longest."""

    rows: slice | Tensor  # of the token axis
    cached: Gathered
    mask: Tensor | None  # (S, 1, 1, tokens), 0 or -inf

    def attend(self, q: Tensor, pool: CpuPool, scale: float) -> Tensor:
        """(S, H * D) of q (S, H, D)."""
        self.cached.fill(pool)
        num_sequences, num_kv_heads, _, head_dim = self.cached.k.shape
        # The query heads of a KV head stand where SDPA expects queries: K is not repeated.
        out = F.scaled_dot_product_attention(
            q.view(num_sequences, num_kv_heads, -1, head_dim),
            self.cached.k,
            self.cached.v,
            attn_mask=self.mask,
            scale=scale,
        )
        return out.reshape(num_sequences, -1)


@dataclass(slots=True)
class PrefillChunk:
    """Several queries of one sequence, over its cached prefix and themselves."""

    rows: slice
    cached: Gathered
    mask: Tensor | None  # (T, tokens), None where plain causality does

    def attend(self, q: Tensor, pool: CpuPool, scale: float) -> Tensor:
        """(T, H * D) of q (T, H, D)."""
        self.cached.fill(pool)
        out = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            self.cached.k,
            self.cached.v,
            attn_mask=self.mask,
            is_causal=self.mask is None,
            scale=scale,
            enable_gqa=q.shape[1] != self.cached.k.shape[1],
        )
        return out[0].transpose(0, 1).reshape(q.shape[0], -1)


def attention_parts(
    batch: Batch, pool: CpuPool, window: int | None, scratch: Scratch
) -> list[DecodeGroup | PrefillChunk]:
    """How the batch falls apart; every token is in exactly one part. Any layer's `pool` does."""
    builder = _Builder(batch, pool, window, scratch)
    singles = [s for s, n in enumerate(batch.query_lens) if n == 1]
    chunks = [s for s, n in enumerate(batch.query_lens) if n > 1]
    groups = group_spans([builder.span(s) for s in singles], _max_tokens(pool))
    return [*map(builder.group, groups), *map(builder.chunk, chunks)]


def _max_tokens(pool: CpuPool) -> int:
    num_kv_heads, _, head_dim = map(int, pool.k.shape[1:])
    token_bytes: int = 2 * num_kv_heads * head_dim * pool.k.dtype.itemsize
    return GROUP_BYTES // token_bytes


def group_spans(spans: list[Span], max_tokens: int) -> list[list[Span]]:
    """Groups of like length, each in the batch's order, with little padding in each; of more than
    one sequence only up to `max_tokens`, padding included."""
    groups: list[list[Span]] = []
    padding = 0
    for span in sorted(spans, key=lambda s: -s.length):
        padding += groups[-1][0].length - span.length if groups else 0
        is_full = bool(groups) and (len(groups[-1]) + 1) * groups[-1][0].length > max_tokens
        if not groups or is_full or padding > PADDING_TOKENS:
            groups.append([])
            padding = 0
        groups[-1].append(span)
    return [sorted(group) for group in groups]


class _Builder:
    def __init__(self, batch: Batch, pool: CpuPool, window: int | None, scratch: Scratch) -> None:
        self._num_kv_heads, self._block_size, self._head_dim = map(int, pool.k.shape[1:])
        self._dtype = pool.k.dtype
        self._batch = batch
        self._window = window
        self._scratch = scratch
        self._starts = batch.query_starts.tolist()
        self._heads = torch.arange(self._num_kv_heads)[:, None]

    def span(self, sequence: int) -> Span:
        """The first query sees least far ahead and furthest back: it decides the first page."""
        context = self._batch.context_lens[sequence]
        first_position = context - self._batch.query_lens[sequence]
        first_seen = 0 if self._window is None else max(0, first_position - self._window + 1)
        first_page = first_seen // self._block_size
        return Span(sequence, first_page, context - first_page * self._block_size)

    def group(self, spans: list[Span]) -> DecodeGroup:
        num_pages = self._num_pages(max(span.length for span in spans))
        num_tokens = num_pages * self._block_size
        return DecodeGroup(
            self._token_rows(spans),
            self._gathered(self._wanted(spans, num_pages), len(spans), num_tokens),
            self._group_mask(spans, num_tokens),
        )

    def chunk(self, sequence: int) -> PrefillChunk:
        span = self.span(sequence)
        start, num_queries = self._starts[sequence], self._batch.query_lens[sequence]
        wanted = self._wanted([span], self._num_pages(span.length))
        mask = None
        if num_queries < span.length or (self._window is not None and num_queries > self._window):
            mask = self._chunk_mask(num_queries, span.length)
        rows = slice(start, start + num_queries)
        return PrefillChunk(rows, self._gathered(wanted, 1, span.length), mask)

    def _gathered(self, wanted: Tensor, num_sequences: int, num_tokens: int) -> Gathered:
        width = 2 * self._head_dim
        found = self._scratch.take(wanted.shape[0], self._block_size * width)
        both = found.view(num_sequences, self._num_kv_heads, -1, width)[:, :, :num_tokens]
        words = found.view(WORD)
        return Gathered(wanted, words, both[..., : self._head_dim], both[..., self._head_dim :])

    def _num_pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)

    def _wanted(self, spans: list[Span], num_pages: int) -> Tensor:
        """(S * H_kv * P,) the pages of each sequence, head by head.

        What a sequence's table has beyond its last page is read too, and masked.
        """
        tables = self._batch.block_tables
        firsts = torch.tensor([span.first_page for span in spans])[:, None]
        columns = (firsts + torch.arange(num_pages)).clamp_(max=tables.shape[1] - 1)
        pages = tables[torch.tensor([span.sequence for span in spans])].gather(1, columns)
        return (pages[:, None].long() * self._num_kv_heads + self._heads).flatten()

    def _token_rows(self, spans: list[Span]) -> slice | Tensor:
        tokens = [self._starts[span.sequence] for span in spans]
        if tokens[-1] - tokens[0] == len(tokens) - 1:
            return slice(tokens[0], tokens[-1] + 1)
        return torch.tensor(tokens)

    def _group_mask(self, spans: list[Span], num_tokens: int) -> Tensor | None:
        ends = torch.tensor([span.length for span in spans])[:, None]
        columns = torch.arange(num_tokens)
        hidden = columns >= ends
        if self._window is not None:
            hidden |= columns < ends - self._window
        if not hidden.any():
            return None
        return self._additive(hidden)[:, None, None]

    def _chunk_mask(self, num_queries: int, num_tokens: int) -> Tensor:
        last_seen = torch.arange(num_tokens - num_queries, num_tokens)[:, None]
        columns = torch.arange(num_tokens)
        hidden = columns > last_seen
        if self._window is not None:
            hidden |= columns <= last_seen - self._window
        return self._additive(hidden)

    def _additive(self, hidden: Tensor) -> Tensor:
        return torch.zeros(hidden.shape, dtype=self._dtype).masked_fill_(hidden, float("-inf"))
