"""What the profiler shows as reused prefixes is what lies in an engine's pages."""

from __future__ import annotations

import random

import pytest

from profiler.folds.prefixes import prefixes
from profiler.state import SessionState


@pytest.mark.parametrize("seed", range(3))
def test_along_each_path_lie_the_tokens_of_a_request(core_bench, seed: int) -> None:
    """Over the pages of an engine that shares, preempts and evicts."""
    rng = random.Random(seed)
    bench = core_bench(num_pages=40, block_size=4, max_num_seqs=4)
    stems = [[rng.randrange(3, 9) for _ in range(rng.randrange(4, 17))] for _ in range(4)]
    prompts = []
    for number in range(1, 40):
        stem = rng.choice(stems)
        prompts.append(stem[: rng.randrange(1, len(stem) + 1)] + [number + 10] * rng.randrange(5))
        bench.add(number, prompts[-1], max_tokens=rng.randrange(1, 6))
        for _ in range(rng.randrange(4)):
            bench.step()
    state = SessionState()
    num_seen, path = 0, []
    for event in bench.events:
        state.apply(event)
    assert prefixes(SessionState.restore(state.keyframe()).pages) == prefixes(state.pages)
    for prefix in prefixes(state.pages):
        del path[prefix.depth :]
        assert prefix.start == sum(map(len, path))
        path.append(prefix.pages)
        tokens = [token for pages in path for p in pages for token in bench.runner.cells[p]]
        assert any(prompt[: len(tokens)] == tokens for prompt in prompts)
        num_seen += 1
    assert num_seen > 1
