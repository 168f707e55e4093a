"""Random histories of the core: after every step the books balance and the events are true."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.errors import QueueFullError
from profiler.events import (
    PageDelta,
    PageKeyframe,
    RequestAborted,
    RequestFinished,
    RequestQueued,
    Step,
)
from profiler.folds.pages import Pages

MAX_LEN = 48
# Few different tokens and prefixes, so that histories share, seal, evict and collide.
PREFIXES = [[], [5] * 4, [5] * 8, [6, 7, 8, 9, 5, 5, 5, 5, 3]]


def test_no_history_breaks_the_books(core_bench, expected):
    class Machine(RuleBasedStateMachine):
        @initialize(
            num_pages=st.integers(12, 24),
            budget=st.sampled_from([3, 5, 16, 64]),
            seats=st.integers(1, 6),
            policy=st.sampled_from(["fcfs", "priority"]),
            prefix=st.booleans(),
            chunked=st.booleans(),
            queue=st.integers(2, 8),
            ahead=st.booleans(),
            wide_seqs=st.sampled_from([None, 1, 2, 6]),
            sinks=st.integers(0, 2),
        )
        def start(
            self,
            num_pages,
            budget,
            seats,
            policy,
            prefix,
            chunked,
            queue,
            ahead,
            wide_seqs,
            sinks,
        ):
            self.bench = core_bench(
                num_pages=num_pages,
                max_model_len=MAX_LEN,
                prefix=prefix,
                wide_seqs=wide_seqs,
                sinks=sinks,
                max_num_batched_tokens=budget,
                max_num_seqs=seats,
                scheduling_policy=policy,
                enable_chunked_prefill=chunked,
                max_num_queued_reqs=queue,
                async_scheduling=ahead,
            )
            self.prompts: dict[int, list[int]] = {}
            self.dropped: set[int] = set()
            self.pages = Pages()
            self.pages.resize(num_pages)
            self.num_folded = 0

        @rule(
            prefix=st.sampled_from(PREFIXES),
            rest=st.integers(1, 12).map(lambda n: [5] * n)
            | st.lists(st.integers(3, 9), min_size=1, max_size=MAX_LEN - 10),
            max_tokens=st.integers(0, 30),
            priority=st.integers(0, 2),
            prompt_logprobs=st.sampled_from([None, None, 0]),
            n=st.sampled_from([1, 1, 3]),
        )
        def add(self, prefix, rest, max_tokens, priority, prompt_logprobs, n):
            prompt = prefix + rest
            for _ in range(n):
                number = len(self.prompts) + 1
                try:
                    self.bench.add(
                        number,
                        prompt,
                        priority,
                        max_tokens=max_tokens,
                        prompt_logprobs=prompt_logprobs,
                    )
                except QueueFullError:
                    return
                self.prompts[number] = prompt

        @rule(count=st.integers(1, 40))
        def step(self, count):
            for _ in range(count):
                self.bench.step()

        @precondition(lambda self: self.prompts)
        @rule(data=st.data(), well=st.booleans())
        def drop(self, data, well):
            number = data.draw(st.sampled_from(sorted(self.prompts)))
            if number not in self.bench.reasons:
                self.dropped.add(number)
            if well:
                self.bench.core.finish(number, "stop")
            else:
                self.bench.core.abort(number, "disconnect")

        @rule()
        def fail(self):
            self.bench.runner.fail_next = True
            for output in self.bench.step():
                if (output.finish_reason or "").startswith("error"):
                    self.dropped.add(output.request)
            self.bench.runner.fail_next = False

        @invariant()
        def the_books_balance(self):
            core = self.bench.core
            core.check()
            self.fold()
            pool = core._kv.pool
            counts = (self.pages.used, self.pages.cached, self.pages.free)
            assert counts == (pool.num_used, pool.num_cached, pool.num_free)
            assert list(self.pages.refs) == list(pool._refs)
            assert list(self.pages.owners) == list(pool._owner)
            assert bytes(self.pages.sealed_flags) == bytes(pool._sealed)
            for number in core._scheduler.requests():
                pages = core._scheduler.get(number).pages
                assert self.pages.pages_of(number) == pages

        def fold(self):
            """What a reader of the stream knows; a keyframe must not change it."""
            for event in self.bench.events[self.num_folded :]:
                if isinstance(event, PageDelta):
                    self.pages.delta(event)
            self.num_folded = len(self.bench.events)
            version = self.pages.version
            kv = self.bench.core._kv
            self.pages.keyframe(PageKeyframe(0, kv.pool.spans(), kv.forms()))
            assert self.pages.version == version

        def teardown(self):
            if not hasattr(self, "bench"):
                return
            self.bench.run()
            self.the_books_balance()
            assert self.pages.used == 0
            self.every_answer_is_the_models()
            self.every_request_has_one_end()

        def every_answer_is_the_models(self):
            for number, prompt in self.prompts.items():
                output = self.bench.outputs[number]
                assert output == expected(prompt, len(output))
                if number not in self.dropped:
                    assert self.bench.reasons[number] == "length"

        def every_request_has_one_end(self):
            ends = self.bench.of(RequestFinished) + self.bench.of(RequestAborted)
            assert sorted(e.request for e in ends) == sorted(self.prompts)
            assert [e.request for e in self.bench.of(RequestQueued)] == list(self.prompts)
            for step in self.bench.of(Step):
                total = step.pages_used + step.pages_cached + step.pages_free
                assert total == self.bench.runner.num_pages

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=60, stateful_step_count=60, deadline=None)
    )
