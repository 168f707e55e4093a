"""Which rows of which sequence each tile of the prefill kernel takes, worked out on the device."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
import triton
import triton.language as tl

from engine.kernels.blocks import ceil_div
from engine.kernels.checks import expect_contiguous, expect_dims, expect_dtype, expect_shape
from engine.kernels.launching import launch

if TYPE_CHECKING:
    from torch import Tensor

# Tiles of a program and sequences that it looks at together: 64 pairs for each of its threads.
TILES: Final = 64
SEQUENCES: Final = 128


def count_tiles(query_lens: Sequence[int], group: int, rows: int) -> int:
    """Of the sequences that bring more than one token."""
    return sum(ceil_div(new * group, rows) for new in query_lens if new > 1)


@triton.jit(do_not_specialize=["num_sequences", "num_tiles"])
def _tile_map_kernel(
    query_starts,
    tile_map,
    num_sequences,
    num_tiles,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    SEQUENCES: tl.constexpr,
    TILES: tl.constexpr,
):
    tiles = tl.program_id(0) * TILES + tl.arange(0, TILES)
    # Of a tile that no sequence owns the sums stay 0: it belongs to sequence -1.
    owner = tl.full((TILES,), -1, tl.int32)
    left = tl.zeros((TILES,), tl.int32)
    mapped = 0
    for base in range(0, num_sequences, SEQUENCES):
        sequences = base + tl.arange(0, SEQUENCES)
        there = sequences < num_sequences
        starts = tl.load(query_starts + sequences, mask=there, other=0)
        new = tl.load(query_starts + sequences + 1, mask=there, other=0) - starts
        counts = tl.where(new > 1, tl.cdiv(new * GROUP, ROWS), 0)
        ends = mapped + tl.cumsum(counts, 0)
        owns = (tiles[:, None] < ends[None, :]) & (tiles[:, None] >= (ends - counts)[None, :])
        owner += tl.sum(tl.where(owns, sequences[None, :] + 1, 0), 1)
        left += tl.sum(tl.where(owns, ends[None, :] - tiles[:, None], 0), 1)
        mapped += tl.sum(counts, 0)
    first = (left - 1) * ROWS
    inside = tiles < num_tiles
    tl.store(tile_map + 2 * tiles, owner, mask=inside)
    tl.store(tile_map + 2 * tiles + 1, first, mask=inside)


def map_tiles(query_starts: Tensor, num_tiles: int, group: int, rows: int) -> Tensor:
    """(num_tiles, 2) int32: sequence and first row of each tile, on the device of `query_starts`.

    `query_starts` (S + 1,) int32 are offsets into the token axis. A sequence's tiles are side by
    side, the one with the most keys to walk first; tiles that nobody needs have sequence -1. Never
    waits for the device. Raises: ValueError or TypeError.
    """
    expect_dims("query_starts", query_starts, "S")
    expect_dtype("query_starts", query_starts, torch.int32)
    tile_map = torch.empty((num_tiles, 2), dtype=torch.int32, device=query_starts.device)
    launch(
        _tile_map_kernel,
        (ceil_div(num_tiles, TILES),),
        query_starts,
        tile_map,
        query_starts.shape[0] - 1,
        num_tiles,
        GROUP=group,
        ROWS=rows,
        SEQUENCES=SEQUENCES,
        TILES=TILES,
    )
    return tile_map


def check_tile_map(tile_map: Tensor) -> None:
    """(num_tiles, 2) int32, contiguous. Raises: ValueError or TypeError."""
    expect_shape("tile_map", tile_map, (tile_map.shape[0], 2))
    expect_dtype("tile_map", tile_map, torch.int32)
    expect_contiguous("tile_map", tile_map)


def reference(
    query_lens: Sequence[int], num_tiles: int, group: int, rows: int
) -> list[tuple[int, int]]:
    """The same in Python."""
    mapped = [
        (sequence, tile * rows)
        for sequence, new in enumerate(query_lens)
        if new > 1
        for tile in reversed(range(ceil_div(new * group, rows)))
    ]
    return mapped + [(-1, -rows)] * (num_tiles - len(mapped))
