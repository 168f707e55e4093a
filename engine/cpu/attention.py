"""Attention of a mixed batch on a CPU: decoding sequences in groups, prefill chunks one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from engine.cpu.pages import rows_of

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool
    from engine.batch import Batch

# Rows of padding that a group may hold: on two cores a further group costs about as much as
# 400 rows of SmolLM2 (35 us a layer).
PADDING_ROWS = 512


class Span(NamedTuple):
    """The cached tokens that a sequence's queries may see, from the start of page `first_page`.

    `sequence` is its number in the batch, `first_page` counts within its block table.
    """

    sequence: int
    first_page: int
    length: int


class Scratch:
    """Memory for gathered rows, kept from layer to layer: fresh memory costs a page fault each."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._buffer = torch.empty(0, dtype=dtype)

    def take(self, num_rows: int, width: int) -> Tensor:
        """(num_rows, width), overwritten by the next taker."""
        size = num_rows * width
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size + size // 2, dtype=self._buffer.dtype)
        return self._buffer[:size].view(num_rows, width)


@dataclass(slots=True)
class DecodeGroup:
    """Sequences with one query each and about as many rows, padded to the longest."""

    rows: slice | Tensor  # of the token axis
    pages: Tensor  # (S * P * H_kv,) which (page, head) to gather
    num_sequences: int
    num_rows: int  # P * block_size
    mask: Tensor | None  # (S, 1, 1, num_rows), 0 or -inf

    def attend(self, q: Tensor, pool: LayerPool, scale: float, scratch: Scratch) -> Tensor:
        """(S, H * D) of q (S, H, D)."""
        num_kv_heads, head_dim = pool.k.shape[1], q.shape[-1]
        k, v = _gather(pool, self.pages, self.num_sequences, scratch)
        # The query heads of a KV head stand where SDPA expects queries: K is not repeated.
        grouped = q.view(self.num_sequences, num_kv_heads, -1, head_dim)
        out = F.scaled_dot_product_attention(grouped, k, v, attn_mask=self.mask, scale=scale)
        return out.reshape(self.num_sequences, -1)


@dataclass(slots=True)
class PrefillChunk:
    """Several queries of one sequence, over its cached prefix and themselves."""

    rows: slice
    pages: Tensor
    num_rows: int
    mask: Tensor | None  # (T, num_rows), None where plain causality does

    def attend(self, q: Tensor, pool: LayerPool, scale: float, scratch: Scratch) -> Tensor:
        """(T, H * D) of q (T, H, D)."""
        k, v = _gather(pool, self.pages, 1, scratch)
        out = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            k[:, :, : self.num_rows],
            v[:, :, : self.num_rows],
            attn_mask=self.mask,
            is_causal=self.mask is None,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return out[0].transpose(0, 1).reshape(q.shape[0], -1)


def _gather(
    pool: LayerPool, pages: Tensor, num_sequences: int, scratch: Scratch
) -> tuple[Tensor, Tensor]:
    """K and V (S, H_kv, rows, D) of the pages, views of the scratch memory."""
    num_pages, num_kv_heads, block_size, head_dim = pool.k.shape
    width = block_size * 2 * head_dim
    flat = rows_of(pool).view(num_pages * num_kv_heads, width)
    found = scratch.take(pages.shape[0], width)
    torch.index_select(flat, 0, pages, out=found)
    both = found.view(num_sequences, num_kv_heads, -1, 2 * head_dim)
    return both[..., :head_dim], both[..., head_dim:]


def attention_parts(
    batch: Batch, num_kv_heads: int, block_size: int, window: int | None, dtype: torch.dtype
) -> list[DecodeGroup | PrefillChunk]:
    """How the batch falls apart; every token is in exactly one part."""
    builder = _Builder(batch, num_kv_heads, block_size, window, dtype)
    singles = [s for s, n in enumerate(batch.query_lens) if n == 1]
    chunks = [s for s, n in enumerate(batch.query_lens) if n > 1]
    groups = group_spans([builder.span(s) for s in singles])
    return [*map(builder.group, groups), *map(builder.chunk, chunks)]


def group_spans(spans: list[Span]) -> list[list[Span]]:
    """Groups of like length, each in the batch's order, with few rows of padding in each."""
    groups: list[list[Span]] = []
    padding = 0
    for span in sorted(spans, key=lambda s: -s.length):
        padding += groups[-1][0].length - span.length if groups else 0
        if not groups or padding > PADDING_ROWS:
            groups.append([])
            padding = 0
        groups[-1].append(span)
    return [sorted(group) for group in groups]


class _Builder:
    def __init__(
        self,
        batch: Batch,
        num_kv_heads: int,
        block_size: int,
        window: int | None,
        dtype: torch.dtype,
    ) -> None:
        self._batch = batch
        self._block_size = block_size
        self._window = window
        self._dtype = dtype
        self._starts = batch.query_starts.tolist()
        self._heads = torch.arange(num_kv_heads)[:, None]
        self._num_kv_heads = num_kv_heads

    def span(self, row: int) -> Span:
        """The first query sees least far ahead and furthest back: it decides the first page."""
        context = self._batch.context_lens[row]
        first_position = context - self._batch.query_lens[row]
        first_seen = 0 if self._window is None else max(0, first_position - self._window + 1)
        first_page = first_seen // self._block_size
        return Span(row, first_page, context - first_page * self._block_size)

    def group(self, spans: list[Span]) -> DecodeGroup:
        num_pages = self._num_pages(max(span.length for span in spans))
        pages = torch.cat([self._pages(span, num_pages) for span in spans])
        num_rows = num_pages * self._block_size
        return DecodeGroup(
            self._token_rows(spans), pages, len(spans), num_rows, self._group_mask(spans, num_rows)
        )

    def chunk(self, row: int) -> PrefillChunk:
        span = self.span(row)
        start, count = self._starts[row], self._batch.query_lens[row]
        pages = self._pages(span, self._num_pages(span.length))
        mask = None
        if count < span.length or (self._window is not None and count > self._window):
            mask = self._chunk_mask(count, span.length)
        return PrefillChunk(slice(start, start + count), pages, span.length, mask)

    def _num_pages(self, num_rows: int) -> int:
        return -(-num_rows // self._block_size)

    def _pages(self, span: Span, num_pages: int) -> Tensor:
        """(H_kv * P,) the gathered rows of one sequence; padding repeats its last page."""
        table = self._batch.block_tables[span.sequence, span.first_page :]
        pages = table[: self._num_pages(span.length)].long()
        missing = num_pages - pages.shape[0]
        if missing:
            pages = torch.cat((pages, pages[-1:].expand(missing)))
        return (pages * self._num_kv_heads + self._heads).flatten()

    def _token_rows(self, spans: list[Span]) -> slice | Tensor:
        tokens = [self._starts[span.sequence] for span in spans]
        if tokens[-1] - tokens[0] == len(tokens) - 1:
            return slice(tokens[0], tokens[-1] + 1)
        return torch.tensor(tokens)

    def _group_mask(self, spans: list[Span], num_rows: int) -> Tensor | None:
        ends = torch.tensor([span.length for span in spans])[:, None]
        columns = torch.arange(num_rows)
        hidden = columns >= ends
        if self._window is not None:
            hidden |= columns < ends - self._window
        if not hidden.any():
            return None
        return self._additive(hidden)[:, None, None]

    def _chunk_mask(self, num_queries: int, num_rows: int) -> Tensor:
        last_seen = torch.arange(num_rows - num_queries, num_rows)[:, None]
        columns = torch.arange(num_rows)
        hidden = columns > last_seen
        if self._window is not None:
            hidden |= columns <= last_seen - self._window
        return self._additive(hidden)

    def _additive(self, hidden: Tensor) -> Tensor:
        return torch.zeros(hidden.shape, dtype=self._dtype).masked_fill_(hidden, float("-inf"))
