"""One sequence with page pools of its own: where its tokens lie, and its passes."""

from __future__ import annotations

import torch

from engine.batch import Batch, Packing


class LoneSequence:
    """Page i of the sequence is packed page i, and wide while it is filled; the first `num_sinks`
    stay so. Passes are at most `chunk` tokens long. A token may also see `num_recent` pages before
    its own as they were written; passes then lie within a page.

    Its pools have `num_packed` packed pages and `num_wide` wide ones. Without packing
    (`packs` false) page i is wide page i.
    """

    def __init__(
        self,
        num_tokens: int,
        block_size: int,
        chunk: int,
        num_sinks: int = 1,
        packs: bool = True,
        num_recent: int = 0,
    ) -> None:
        num_pages = -(-num_tokens // block_size)
        self._block_size = block_size
        self._packs = packs
        self._num_sinks = num_sinks if packs else num_pages
        self._num_recent = num_recent if packs else 0
        # A chunk may begin and end within a page.
        self._num_hot = self._num_recent - (-chunk // block_size) + 1
        self.num_packed = num_pages if packs else 0
        self.num_wide = min(num_pages, self._num_sinks) + (self._num_hot if packs else 0)

    def batch(self, token_ids: list[int], start: int) -> Batch:
        """The pass over these tokens, the first at position `start`; logits of all of them."""
        size, end = self._block_size, start + len(token_ids)
        positions = torch.arange(start, end)
        wide = torch.tensor([self._wide(page) for page in range(-(-end // size))])
        tables = [self._entry(page, (end - 1) // size) for page in range(len(wide))]
        return Batch(
            token_ids=torch.tensor(token_ids),
            positions=positions,
            slots=wide[positions // size] * size + positions % size,
            block_tables=torch.tensor([tables], dtype=torch.int32),
            query_starts=torch.tensor([0, end - start], dtype=torch.int32),
            context_lens_device=torch.tensor([end], dtype=torch.int32),
            logit_rows=torch.arange(end - start),
            query_lens=(end - start,),
            context_lens=(end,),
            packing=self._packing(start // size, end // size) if self._packs else None,
        )

    def _packing(self, first: int, end: int) -> Packing:
        """Of a pass that fills the pages from `first` to `end`."""
        seals = [(self._wide(page), page) for page in range(max(first, self._num_sinks), end)]
        return Packing(self._block_size, self.num_packed, torch.tensor(seals) if seals else None)

    def _wide(self, page: int) -> int:
        if page < self._num_sinks:
            return page
        return self._num_sinks + page % self._num_hot

    def _entry(self, page: int, own: int) -> int:
        """Of the block table in a pass that ends in page `own`."""
        is_wide = page < self._num_sinks or own - self._num_recent <= page < own
        return self.num_packed + self._wide(page) if is_wide else page
