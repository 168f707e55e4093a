"""Attention of a mixed batch on a CPU: tiles of queries that the threads share out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from engine.cpu.lanes import LANES

if TYPE_CHECKING:
    from torch import Tensor

    from engine.batch import Batch

# Rows of queries that share what was read of K and V: enough that widening it to fp32 does not
# count, few enough that a tile's scores and sums stay in a core's own cache.
TILE_ROWS: Final = 64


def tile_tokens(group: int) -> int:
    """Tokens of a tile, where each brings `group` rows."""
    return max(1, TILE_ROWS // group)


def tiles_of(batch: Batch, group: int) -> Tensor:
    """(tiles, 4) int64: sequence, first token of the flat axis, tokens, position of the first.

    Every token is in one tile, and of packed pages a tile's tokens are in one page. What takes
    longest comes first, so that the threads end together.
    """
    size = tile_tokens(group)
    page = batch.packing.block_size if batch.packing else None
    tiles = []
    row = 0
    for sequence, (count, context) in enumerate(
        zip(batch.query_lens, batch.context_lens, strict=True)
    ):
        before = context - count
        for i, length in _pieces(before, count, size, page):
            tiles.append((sequence, row + i, length, before + i))
        row += count
    table = np.array(tiles, np.int64)
    work = (table[:, 3] + table[:, 2]) * table[:, 2]
    return torch.from_numpy(table[np.argsort(-work, kind="stable")])


def _pieces(position: int, count: int, size: int, page: int | None) -> Iterator[tuple[int, int]]:
    """Cuts `count` tokens from `position` on into at most `size`, at the ends of pages too."""
    i = 0
    while i < count:
        to_end = count if page is None else page - (position + i) % page
        length = min(size, count - i, to_end)
        yield i, length
        i += length


def scratch_floats(group: int, head_dim: int) -> int:
    """What a thread needs for a tile: K and V of LANES tokens, and of each row its scores, its
    query, its sums, the top and the total."""
    rows = tile_tokens(group) * group
    padded = -(-head_dim // LANES) * LANES
    return (head_dim + padded) * LANES + rows * (LANES + 2 * padded + 2)
