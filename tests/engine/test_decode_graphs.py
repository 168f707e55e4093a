"""Which numbers of sequences have a graph. What graphs compute, the kernels' tests hold."""

from __future__ import annotations

import pytest

from engine.decode_graphs import STEP, graph_sizes


@pytest.mark.parametrize("max_num_seqs", [1, 2, 3, 4, 5, 8, 9, 100, 256])
def test_every_batch_has_a_graph_little_larger_than_itself(max_num_seqs: int) -> None:
    sizes = graph_sizes(max_num_seqs)
    assert sizes == sorted(set(sizes)) and sizes[-1] == max_num_seqs
    for count in range(1, max_num_seqs + 1):
        size = next(size for size in sizes if size >= count)
        assert size - count < STEP
