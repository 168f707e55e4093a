"""Which steps have a graph. What graphs compute, the kernels' tests hold."""

from __future__ import annotations

import pytest

from engine.step_graphs import (
    GRAPH_BYTES,
    MIXED_TOKENS,
    STEP,
    decode_sizes,
    mixed_sizes,
    planned_bytes,
)


@pytest.mark.parametrize("max_num_seqs", [1, 2, 3, 4, 5, 8, 9, 100, 256])
def test_every_decoding_batch_has_a_graph_little_larger_than_itself(max_num_seqs: int) -> None:
    sizes = [size.num_tokens for size in decode_sizes(max_num_seqs)]
    assert sizes == sorted(set(sizes)) and sizes[-1] == max_num_seqs
    for count in range(1, max_num_seqs + 1):
        size = next(size for size in sizes if size >= count)
        assert size - count < STEP


@pytest.mark.parametrize("max_num_seqs", [1, 3, 64, 100, 256])
def test_the_first_graph_that_holds_a_step_with_prompts_is_the_smallest(max_num_seqs: int) -> None:
    sizes = mixed_sizes(max_num_seqs)
    assert len(set(sizes)) == len(sizes) < 25
    for num_tokens in (2, 16, 17, 300, MIXED_TOKENS[-1]):
        for num_sequences in (1, min(5, max_num_seqs), min(num_tokens, max_num_seqs)):
            if num_sequences < num_tokens:
                fitting = [
                    size
                    for size in sizes
                    if size.num_tokens >= num_tokens and size.num_sequences >= num_sequences
                ]
                assert fitting[0].num_tokens == min(size.num_tokens for size in fitting)
                assert fitting[0].num_sequences <= min(size.num_sequences for size in fitting)


def test_the_plan_has_room_for_the_largest_pass_its_logits_and_every_graph() -> None:
    asked = []

    def pass_bytes(num_tokens: int, num_seqs: int) -> int:
        asked.append((num_tokens, num_seqs))
        return 5000

    num_graphs = len(decode_sizes(4)) + len(mixed_sizes(4))
    assert planned_bytes(4, 700, pass_bytes) == 5700 + num_graphs * GRAPH_BYTES
    planned_bytes(1024, 700, pass_bytes)
    assert asked == [(MIXED_TOKENS[-1], 4), (1024, 1024)]
