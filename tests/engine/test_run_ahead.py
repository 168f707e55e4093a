"""Steps launched before the tokens of the step before are known change nothing but the time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.llm import LLM, SamplingParams
from profiler.events import RequestAborted, RequestFinished, RequestPreempted, Step
from tests.engine.conftest import next_token

PROMPTS = [list(range(n, n + 9)) for n in (3, 40, 5, 77, 12, 61)]


def under_way_at_launch(bench) -> list[int]:
    """For each launch how many steps were under way with it, itself included."""
    counts, launch = [], bench.runner.launch

    def counting(plan):
        handle = launch(plan)
        counts.append(bench.runner.num_under_way)
        return handle

    bench.runner.launch = counting
    return counts


def test_the_next_step_is_launched_before_this_one_is_waited_for(core_bench, expected):
    bench = core_bench(async_scheduling=True)
    counts = under_way_at_launch(bench)
    bench.add(1, range(6), max_tokens=8)
    bench.run()
    assert counts == [1] + [2] * 7
    assert bench.outputs[1] == expected(range(6), 8)
    steps = bench.of(Step)
    assert [len(step.rows) for step in steps] == [1] * 8
    assert all(after.t_ns == before.end_ns for before, after in pairwise(steps))


def test_a_row_whose_request_has_ended_is_computed_for_nobody(core_bench):
    """That a token ends its request is known only after the next step is on its way."""
    bench = core_bench(async_scheduling=True)
    prompt = list(range(6))
    first = next_token(prompt)
    bench.add(1, prompt, max_tokens=8, stop_token_ids=(next_token([*prompt, first]),))
    bench.add(2, [9, 9], max_tokens=8)
    bench.run()
    assert len(bench.outputs[1]) == 2 and bench.reasons == {1: "stop", 2: "length"}
    named = [[row.request for row in step.rows] for step in bench.of(Step)]
    assert named == [[1, 2], [1, 2], *[[2]] * 6]


def test_a_lone_request_that_stops_leaves_a_step_to_be_landed(core_bench):
    bench = core_bench(async_scheduling=True)
    bench.add(1, [4, 5], max_tokens=8, stop_token_ids=(next_token([4, 5]),))
    bench.step()
    assert bench.reasons == {1: "stop"}
    assert bench.core.has_work
    assert bench.step() == [] and not bench.core.has_work
    assert [len(step.rows) for step in bench.of(Step)] == [1, 0]


def test_penalties_for_earlier_tokens_do_not_wait_for_them(core_bench):
    bench = core_bench(async_scheduling=True)
    counts = under_way_at_launch(bench)
    bench.add(1, range(6), max_tokens=4, presence_penalty=0.5, min_tokens=3)
    bench.run()
    assert counts == [1, 2, 2, 2]


def test_nobody_is_preempted_while_a_step_is_under_way(core_bench, expected):
    bench = core_bench(num_pages=8, async_scheduling=True)
    counts = under_way_at_launch(bench)
    for number in (1, 2, 3):
        bench.add(number, range(number, number + 5), max_tokens=14)
    bench.run()
    assert bench.of(RequestPreempted) and 2 in counts
    for number in (1, 2, 3):
        assert bench.outputs[number] == expected(range(number, number + 5), 14)


@pytest.mark.parametrize("when", ["fail_launch", "fail_next"])
def test_a_failing_step_ends_its_requests_and_the_one_before_counts(core_bench, expected, when):
    bench = core_bench(max_num_seqs=2, async_scheduling=True)
    for number in (1, 2, 3):
        bench.add(number, range(number, 10), max_tokens=5)
    bench.step()
    setattr(bench.runner, when, True)
    bench.run()
    assert bench.reasons[1].startswith("error: RuntimeError: ")
    assert bench.outputs[3] == expected(range(3, 10), 5) and bench.reasons[3] == "length"
    # Two steps were under way: the token of the first is lost only if that one failed.
    num_got = 2 if when == "fail_launch" else 1
    aborted = [(e.request, e.num_output_tokens) for e in bench.of(RequestAborted)]
    assert aborted == [(1, num_got), (2, num_got)]


def test_a_request_dropped_under_way_frees_its_pages_at_once(core_bench, expected):
    bench = core_bench(async_scheduling=True)
    bench.add(1, range(6), max_tokens=9)
    bench.step()
    bench.core.abort(1, "disconnect")
    bench.core.check()
    bench.add(2, range(7), max_tokens=3)
    bench.run()
    assert bench.outputs[2] == expected(range(7), 3)
    assert [e.request for e in bench.of(RequestFinished)] == [2]
    assert bench.of(Step)[-1].pages_used == 0


SETTINGS = [
    SamplingParams(temperature=0.0, max_tokens=20),
    SamplingParams(temperature=0.9, seed=5, max_tokens=17, logprobs=2),
    SamplingParams(temperature=1.2, top_p=0.9, seed=6, max_tokens=12, prompt_logprobs=1),
    SamplingParams(temperature=0.0, max_tokens=9, repetition_penalty=1.3),
    SamplingParams(temperature=0.0, max_tokens=20, frequency_penalty=0.7, presence_penalty=0.4),
    SamplingParams(temperature=0.8, seed=7, max_tokens=15, min_tokens=12, logit_bias={0: 9.0}),
]


@pytest.mark.parametrize("chunk", [5, 64])
def test_a_real_model_says_the_same(tmp_path, chunk):
    def answers(ahead: bool):
        llm = LLM(
            "random:tiny",
            cache_dir=tmp_path,
            device="cpu",
            dtype="float32",
            num_threads=1,
            max_num_batched_tokens=chunk,
            async_scheduling=ahead,
        )
        return [output.samples for output in llm.generate(PROMPTS, SETTINGS)]

    assert answers(True) == answers(False)
