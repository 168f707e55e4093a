"""The core's loop over a fake runner: what comes out, in which order, and what is left behind."""

from __future__ import annotations

import pytest

from engine.errors import InvalidRequestError, QueueFullError
from profiler.events import (
    MemorySample,
    PageDelta,
    PageKeyframe,
    RequestAborted,
    RequestFinished,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestRejected,
    RequestScheduled,
    Step,
    kind_of,
)


def test_tokens_are_those_of_the_model(core_bench, expected):
    bench = core_bench()
    prompts = {n: list(range(3, 3 + 5 * n)) for n in range(1, 6)}
    for number, prompt in prompts.items():
        bench.add(number, prompt, max_tokens=9)
    bench.run()
    assert bench.outputs == {n: expected(p, 9) for n, p in prompts.items()}
    assert set(bench.reasons.values()) == {"length"}
    assert bench.core.session_start().num_pages == 64


def test_events_of_a_request_come_in_order(core_bench):
    bench = core_bench()
    bench.add(1, range(10), max_tokens=2)
    bench.run()
    events = [e for e in bench.events if not isinstance(e, MemorySample)]
    assert [kind_of(e) for e in events] == [
        "request_queued",
        "request_scheduled",
        "page_delta",
        "step",
        "page_delta",
        "request_first_token",
        "step",
        "page_delta",
        "request_finished",
    ]
    first, last = bench.of(Step)
    # Pages are taken when a step is planned; they can be shared, and are free, when it has ended.
    assert [e.t_ns for e in bench.of(PageDelta)] == [first.t_ns, first.end_ns, last.end_ns]
    assert bench.of(RequestFirstToken)[0].t_ns == first.end_ns
    assert bench.of(RequestFinished)[0].t_ns == last.end_ns
    assert [tuple(r) for r in _rows(first)] == [(1, 10, 1)]
    assert [tuple(r) for r in _rows(last)] == [(1, 0, 1)]
    assert last.pages_used == 0
    assert last.pages_cached == 2
    assert last.pages_used + last.pages_cached + last.pages_free == 64


def _rows(step: Step) -> list[tuple[int, int, int]]:
    return [(r.request, r.prefill_tokens, r.new_tokens) for r in step.rows]


def test_a_fully_cached_prompt_computes_only_what_it_must(core_bench, expected):
    bench = core_bench()
    prompt = list(range(3, 11))  # two whole pages
    for number in (1, 2):
        bench.add(number, prompt, max_tokens=3)
        bench.run()
    assert bench.outputs[2] == expected(prompt, 3)
    assert [e.cached_tokens for e in bench.of(RequestScheduled)] == [0, 4]
    assert bench.last[0].num_cached_tokens == 4


def test_without_prefix_caching_nothing_is_shared(core_bench, expected):
    bench = core_bench(prefix=False)
    for number in (1, 2):
        bench.add(number, range(12), max_tokens=3)
        bench.run()
    assert [e.cached_tokens for e in bench.of(RequestScheduled)] == [0, 0]
    assert bench.of(Step)[-1].pages_free == 64


@pytest.mark.parametrize("budget", [5, 64])
def test_samples_of_one_prompt_share_its_full_pages(core_bench, expected, budget):
    bench = core_bench(max_num_batched_tokens=budget)
    prompt = list(range(3, 17))  # three full pages and half a page
    for number in range(1, 5):
        bench.add(number, prompt, max_tokens=4)
    while not bench.outputs[4]:
        bench.step()
    pages = [bench.core._scheduler.get(number).pages for number in range(1, 5)]
    assert all(own[:3] == pages[0][:3] for own in pages)
    assert len({own[3] for own in pages}) == 4
    bench.run()
    assert bench.outputs == dict.fromkeys(range(1, 5), expected(prompt, 4))
    assert [e.cached_tokens for e in bench.of(RequestScheduled)] == [0, 12, 12, 12]
    computed = sum(row.prefill_tokens for step in bench.of(Step) for row in step.rows)
    assert computed == 14 + 3 * 2


def test_a_prompt_whose_twin_is_dropped_midway_is_computed_by_the_next(core_bench, expected):
    bench = core_bench(max_num_batched_tokens=4)
    prompt = list(range(3, 17))
    for number in (1, 2):
        bench.add(number, prompt, max_tokens=4)
    bench.step()
    assert not bench.core._scheduler.get(2).pages
    bench.core.abort(1, "disconnect")
    bench.run()
    assert bench.outputs[2] == expected(prompt, 4)


def test_nobody_waits_for_a_twin_that_can_give_nothing(core_bench):
    short, without_cache = core_bench(), core_bench(prefix=False)
    for bench, prompt in ((short, range(4)), (without_cache, range(14))):
        for number in (1, 2):
            bench.add(number, prompt, max_tokens=2)
        bench.step()
        assert all(bench.outputs.values())
    scorers = core_bench()
    for number in (1, 2):  # each must compute all of its prompt, whoever has computed it before
        scorers.add(number, range(14), max_tokens=2, prompt_logprobs=0)
    scorers.step()
    assert all(scorers.outputs.values())


@pytest.mark.parametrize("budget", [4, 7, 64])
def test_chunk_size_does_not_change_tokens(core_bench, expected, budget):
    bench = core_bench(max_num_batched_tokens=budget)
    prompts = {n: list(range(n, n + 6 * n)) for n in range(1, 5)}
    for number, prompt in prompts.items():
        bench.add(number, prompt, max_tokens=8)
    bench.run()
    assert bench.outputs == {n: expected(p, 8) for n, p in prompts.items()}
    for step in bench.of(Step):
        assert sum(r.prefill_tokens or 1 for r in step.rows) <= budget


def test_prefill_and_decode_share_a_step(core_bench):
    bench = core_bench(max_num_batched_tokens=8)
    bench.add(1, range(4), max_tokens=9)
    bench.step()
    bench.add(2, range(30, 50), max_tokens=2)
    bench.step()
    assert _rows(bench.of(Step)[-1]) == [(1, 0, 1), (2, 7, 0)]


def test_preemption_gives_the_same_tokens(core_bench, expected):
    bench = core_bench(num_pages=16, max_model_len=64)
    prompts = {n: [n * 7 + i for i in range(9)] for n in range(1, 6)}
    for number, prompt in prompts.items():
        bench.add(number, prompt, max_tokens=30)
    bench.run()
    assert bench.outputs == {n: expected(p, 30) for n, p in prompts.items()}
    preempted = bench.of(RequestPreempted)
    assert preempted
    assert all(e.lost_tokens > 0 for e in preempted)
    resumed = [e.request for e in bench.of(RequestScheduled) if e.resumed]
    assert sorted(resumed) == sorted(e.request for e in preempted)
    assert len(bench.of(RequestFirstToken)) == len(prompts)


def test_the_first_come_is_never_preempted(core_bench):
    bench = core_bench(num_pages=16, max_model_len=64)
    for number in range(1, 6):
        bench.add(number, [number * 7 + i for i in range(9)], max_tokens=30)
    bench.run()
    assert 1 not in {e.request for e in bench.of(RequestPreempted)}
    assert bench.of(RequestFinished)[0].request == 1


def test_priority_goes_first_and_is_preempted_last(core_bench):
    bench = core_bench(scheduling_policy="priority", max_num_seqs=1)
    bench.add(1, range(5), priority=2)
    bench.add(2, range(5), priority=1)
    bench.add(3, range(5), priority=0)
    bench.run()
    assert [e.request for e in bench.of(RequestFinished)] == [3, 2, 1]


def test_under_fcfs_priority_is_ignored(core_bench):
    bench = core_bench(max_num_seqs=1)
    bench.add(1, range(5), priority=2)
    bench.add(2, range(5), priority=0)
    bench.run()
    assert [e.request for e in bench.of(RequestFinished)] == [1, 2]


def test_stop_ids_end_a_request_but_not_before_min_tokens(core_bench, expected):
    prompt = list(range(3, 9))
    third = expected(prompt, 3)[2]
    bench = core_bench()
    bench.add(1, prompt, stop_token_ids=(third,))
    bench.add(2, prompt, stop_token_ids=(third,), min_tokens=5, max_tokens=6)
    bench.run()
    assert bench.outputs[1] == expected(prompt, 3)
    assert bench.reasons == {1: "stop", 2: "length"}
    assert bench.outputs[2] == expected(prompt, 6)


def test_max_tokens_zero_gives_prompt_logprobs_alone(core_bench):
    bench = core_bench(max_num_batched_tokens=4)
    bench.add(1, range(10, 20), max_tokens=0, prompt_logprobs=0)
    bench.run()
    (output,) = bench.last
    assert output.token_ids == []
    assert output.finish_reason == "length"
    assert output.prompt_logprobs[0] is None
    assert [p.token_id for p in output.prompt_logprobs[1:]] == list(range(11, 20))
    assert not bench.of(RequestFirstToken)


def test_prompt_logprobs_come_once_and_skip_the_cache(core_bench):
    bench = core_bench(num_pages=16, max_model_len=64)
    for number in range(1, 6):
        bench.add(number, range(9), max_tokens=30, prompt_logprobs=1)
    seen: dict[int, int] = {}
    while bench.core.has_work:
        for output in bench.step():
            if output.prompt_logprobs is not None:
                assert len(output.prompt_logprobs) == 9
                seen[output.request] = seen.get(output.request, 0) + 1
    assert bench.of(RequestPreempted)
    assert seen == dict.fromkeys(range(1, 6), 1)


def test_one_step_computes_a_bounded_number_of_prompt_logprobs(core_bench):
    bench = core_bench(num_pages=600, max_model_len=600, max_num_batched_tokens=2048)
    for number in (1, 2, 3):
        bench.add(number, [number] * 200, max_tokens=1, prompt_logprobs=0)
    bench.run()
    assert all(sum(r.prefill_tokens for r in s.rows) <= 256 for s in bench.of(Step))
    assert set(bench.reasons) == {1, 2, 3}


def test_abort_while_waiting_and_while_running_frees_pages(core_bench):
    bench = core_bench(max_num_seqs=1, prefix=False)
    bench.add(1, range(10), max_tokens=50)
    bench.add(2, range(10), max_tokens=50)
    bench.step()
    bench.core.abort(2, "disconnect")
    bench.core.abort(1, "disconnect")
    bench.core.abort(1, "disconnect")
    bench.core.check()
    assert not bench.core.has_work
    assert [(e.request, e.num_output_tokens) for e in bench.of(RequestAborted)] == [(2, 0), (1, 1)]
    assert bench.step() == []
    bench.add(3, range(10), max_tokens=1)
    bench.run()
    assert bench.of(Step)[-1].pages_free == 64


def test_finish_is_a_good_end_at_the_time_of_the_last_token(core_bench):
    bench = core_bench()
    bench.add(1, range(10), max_tokens=50)
    bench.step()
    bench.core.finish(1, "stop")
    bench.core.finish(1, "stop")
    (finished,) = bench.of(RequestFinished)
    assert (finished.reason, finished.num_output_tokens) == ("stop", 1)
    assert finished.t_ns == bench.of(Step)[-1].end_ns


def test_a_step_that_fails_ends_its_requests_and_no_others(core_bench, expected):
    bench = core_bench(max_num_seqs=2)
    for number in (1, 2, 3):
        bench.add(number, range(number, 10), max_tokens=5)
    bench.step()
    bench.runner.fail_next = True
    bench.run()
    assert bench.reasons[1] == "error: RuntimeError: the device caught fire"
    assert bench.reasons[3] == "length"
    assert bench.outputs[3] == expected(range(3, 10), 5)
    aborted = bench.of(RequestAborted)
    assert [(e.request, e.num_output_tokens) for e in aborted] == [(1, 1), (2, 1)]
    assert aborted[0].reason == bench.reasons[1]


def test_a_full_queue_refuses(core_bench):
    bench = core_bench(max_num_queued_reqs=2)
    bench.add(1, range(4))
    bench.add(2, range(4))
    with pytest.raises(QueueFullError):
        bench.add(3, range(4))
    assert [e.num_prompt_tokens for e in bench.of(RequestRejected)] == [4]
    assert [e.request for e in bench.of(RequestQueued)] == [1, 2]
    bench.run()
    bench.add(3, range(4))
    bench.run()
    assert len(bench.reasons) == 3


def test_a_queue_full_of_tokens_refuses_but_takes_one_long_prompt(core_bench):
    bench = core_bench(max_num_queued_tokens=20)
    bench.add(1, range(30))
    with pytest.raises(QueueFullError):
        bench.add(2, range(1))
    bench.run()
    bench.add(2, range(1))
    bench.run()
    assert set(bench.reasons) == {1, 2}


@pytest.mark.parametrize(
    ("param", "prompt", "params"),
    [
        ("prompt", [], {}),
        ("prompt", [1000], {}),
        ("prompt", [-1], {}),
        ("prompt", [1] * 128, {}),
        ("temperature", [1], {"temperature": float("nan")}),
        ("temperature", [1], {"temperature": -1.0}),
        ("top_p", [1], {"top_p": 0.0}),
        ("min_tokens", [1], {"min_tokens": 3, "max_tokens": 2}),
        ("logit_bias", [1], {"logit_bias": {1000: 1.0}}),
        ("stop_token_ids", [1], {"stop_token_ids": (1000,)}),
        ("stop", [1], {"stop": ("",)}),
        ("repetition_penalty", [1], {"repetition_penalty": 0.0}),
    ],
)
def test_bad_requests_are_refused_by_field(core_bench, param, prompt, params):
    bench = core_bench()
    with pytest.raises(InvalidRequestError) as error:
        bench.add(1, prompt, **params)
    assert error.value.param == param
    assert not bench.core.has_work
    assert not [e for e in bench.events if not isinstance(e, MemorySample)]


def test_output_ends_where_the_context_ends(core_bench):
    bench = core_bench()
    bench.add(1, [5] * 120, max_tokens=None)
    bench.add(2, [6] * 120, max_tokens=50)
    bench.run()
    assert len(bench.outputs[1]) == len(bench.outputs[2]) == 8
    assert bench.of(RequestQueued)[1].max_tokens == 8


def test_keyframes_and_memory_come_at_their_pace(core_bench):
    bench = core_bench(max_model_len=128)
    for number in range(1, 150):
        bench.add(number, range(100), max_tokens=20)
        bench.run()
    seconds = bench.now_ns / 1e9
    assert seconds > 5
    assert len(bench.of(PageKeyframe)) == seconds // 5
    assert abs(len(bench.of(MemorySample)) - seconds) <= 1.5
    assert bench.of(PageDelta)


def test_a_step_says_what_keeps_the_first_of_the_queue_out(core_bench):
    """Seats, the step's token budget, or pages, each where it is the one that lacks."""
    bench = core_bench(max_num_seqs=1)
    bench.add(1, range(4), max_tokens=2)
    bench.step()
    bench.add(2, range(20, 24), max_tokens=2)
    bench.run()
    assert [s.waits_for for s in bench.of(Step)] == ["", "seats", "", ""]

    bench = core_bench(max_num_batched_tokens=8)
    bench.add(1, range(12), max_tokens=2)
    bench.add(2, range(20, 24), max_tokens=2)
    bench.run()
    assert [s.waits_for for s in bench.of(Step)][:2] == ["tokens", ""]

    bench = core_bench(num_pages=4, block_size=4, max_model_len=16, prefix=False)
    bench.add(1, range(12), max_tokens=4)
    bench.add(2, range(20, 28), max_tokens=2)
    bench.run()
    said = [s.waits_for for s in bench.of(Step)]
    assert said == ["pages"] * 4 + [""] * 2


def test_who_was_preempted_waits_for_pages(core_bench):
    bench = core_bench(num_pages=16, max_model_len=64)
    for number in range(1, 6):
        bench.add(number, [number * 7 + i for i in range(9)], max_tokens=30)
    bench.run()
    preempted = bench.of(RequestPreempted)
    steps = {step.t_ns: step for step in bench.of(Step)}
    assert preempted
    assert {steps[event.t_ns].waits_for for event in preempted} == {"pages"}


def test_a_step_tells_how_long_a_thread_waited_for_a_processor(core_bench, monkeypatch):
    waits = iter([None, 7, 0])

    class Told:
        def longest_ns(self, t_ns):
            return next(waits)

    monkeypatch.setattr("engine.core.RunDelay", Told)
    bench = core_bench()
    bench.add(1, range(4), max_tokens=3)
    bench.run()
    assert [step.processor_wait_ns for step in bench.of(Step)] == [None, 7, 0]
