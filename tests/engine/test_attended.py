"""The work of a step against a count token by token, and against what the engine really did."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import pytest

from engine.attended import WideReads, WorkCounter
from engine.models.config import ModelConfig
from engine.models.work import model_shape
from engine.plan import PlanRow
from engine.sequence import Sequence
from profiler.events import Step

NOBODY = cast(Sequence, None)


def config(**facts: Any) -> ModelConfig:
    return ModelConfig("llama", 4, 8, 16, 2, 1, 4, 1000, 512, **facts)


def looked_at(position: int, window: int | None) -> set[int]:
    first = 0 if window is None else max(0, position - window + 1)
    return set(range(first, position + 1))


def test_contexts_are_those_of_a_count_token_by_token() -> None:
    rng = random.Random(7)
    for window, first in ((None, 0), (1, 0), (16, 0), (16, 2), (512, 0)):
        model = config(sliding_window=window, first_window_layer=first)
        rows = [
            PlanRow(NOBODY, rng.randrange(300), rng.choice([1, 1, 2, 40]), rng.random() < 0.5)
            for _ in range(20)
        ]
        read = pairs = 0
        for layer in range(model.num_layers):
            for row in rows:
                tokens = range(row.start, row.start + row.num_tokens)
                seen = [looked_at(position, model.window_of(layer)) for position in tokens]
                read += len(set().union(*seen))
                pairs += sum(map(len, seen))
        work = WorkCounter(model).count(rows)
        assert work.context_tokens == read // 4
        assert work.attended_pairs == pairs // 4
        assert work.computed_tokens == sum(row.num_tokens for row in rows)
        assert work.sampled_rows == sum(row.samples for row in rows)


@pytest.mark.parametrize("sinks", [0, 1, 3])
def test_wide_reads_are_those_of_a_count_token_by_token(sinks: int) -> None:
    rng, size = random.Random(sinks), 8
    for window, first in ((None, 0), (1, 0), (16, 0), (20, 2)):
        model = config(sliding_window=window, first_window_layer=first)
        rows = [
            PlanRow(NOBODY, rng.randrange(60), rng.choice([1, 1, 2, 40]), True) for _ in range(20)
        ]
        wide = 0
        for layer in range(model.num_layers):
            for row in rows:
                tokens = range(row.start, row.start + row.num_tokens)
                seen = set().union(*(looked_at(p, model.window_of(layer)) for p in tokens))
                pages = {position // size for position in tokens} | set(range(sinks))
                wide += sum(position // size in pages for position in seen)
        work = WorkCounter(model, WideReads(size, sinks)).count(rows)
        assert work.wide_context_tokens == wide // 4
        assert WorkCounter(model).count(rows)[:4] == work[:4]


def test_each_step_tells_its_work(core_bench: Callable[..., Any]) -> None:
    bench = core_bench(max_num_batched_tokens=8)
    for number in (1, 2, 3):
        bench.add(number, range(3, 3 + 7 * number), max_tokens=5, ignore_eos=True)
    bench.run()
    steps = bench.of(Step)
    assert [s.computed_tokens for s in steps] == [p.num_tokens for p in bench.runner.plans]
    assert sum(s.sampled_rows for s in steps) == 15
    assert all(s.attended_pairs >= s.context_tokens >= s.computed_tokens > 0 for s in steps)


def test_a_failed_step_tells_no_work(core_bench: Callable[..., Any]) -> None:
    bench = core_bench()
    bench.add(1, [5, 6, 7])
    bench.runner.fail_next = True
    bench.step()
    (step,) = bench.of(Step)
    assert step.computed_tokens == step.context_tokens == 0


def test_matrices_norms_and_tables_are_all_parameters() -> None:
    model = config()
    shape = model_shape(model)
    norms = (2 * model.num_layers + 1) * model.hidden_size
    table = model.vocab_size * model.hidden_size
    assert shape.layer_weights + shape.head_weights + table + norms == model.num_parameters
    assert shape.num_parameters == model.num_parameters
    assert shape.tail_weights == 8 * 8 + 3 * 8 * 16
