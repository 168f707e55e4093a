"""The map of prefill tiles against its reference, with room to spare."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch

from engine.kernels.tile_map import count_tiles, map_tiles, reference

MIXES = [[9], [1], [1, 5, 300, 2], [0, 7, 0, 0, 2], [1] * 40 + [64] * 3, [3, 1] * 130]


@pytest.mark.parametrize("query_lens", MIXES)
@pytest.mark.parametrize(("group", "rows"), [(1, 16), (7, 64), (3, 128)])
def test_every_row_is_mapped_once(
    device: Any, query_lens: list[int], group: int, rows: int
) -> None:
    starts = torch.tensor([0, *accumulate(query_lens)], dtype=torch.int32, device=device)
    num_tiles = count_tiles(query_lens, group, rows) + 3
    want = reference(query_lens, num_tiles, group, rows)
    assert [tuple(tile) for tile in map_tiles(starts, num_tiles, group, rows).tolist()] == want
    mapped = [tile for tile in want if tile[0] >= 0]
    assert len(set(mapped)) == len(mapped) == num_tiles - 3
    for sequence, new in enumerate(query_lens):
        covered = {first for owner, first in mapped if owner == sequence}
        assert covered == (set(range(0, new * group, rows)) if new > 1 else set())


def test_wrong_arguments_are_named(device: Any) -> None:
    with pytest.raises(TypeError, match="query_starts must be int32"):
        map_tiles(torch.zeros(2, dtype=torch.int64, device=device), 1, 1, 16)
