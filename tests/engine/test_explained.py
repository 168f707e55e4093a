"""The real engine's tokens explained: an intruding prompt, chunks, too few pages, a full house."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.batch import Batch
from engine.config import EngineConfig, SamplingParams, SchedulerConfig
from engine.core import EngineCore
from engine.llm import LLMEngine
from engine.runner import ModelRunner
from profiler.bus import Bus
from profiler.events import RequestPreempted, Step
from profiler.explain.explainer import Explainer
from profiler.explain.parts import Explanation
from profiler.folds.request_view import RequestView
from profiler.follower import Follower
from profiler.session.reader import SessionReader
from profiler.session.tape import Tape
from profiler.state import SessionState

CHUNK = 64


class Run(NamedTuple):
    bus: Bus
    state: SessionState

    def view(self, name: str) -> RequestView:
        return next(view for view in self.state.requests.done if view.name.startswith(name))

    def of(self, kind):
        return [event for event in self.bus.read(0, 10_000)[1] if isinstance(event, kind)]


class Clock:
    """Goes on a little whenever it is looked at, and by its tokens at each forward pass: on a busy
    machine a real step of one token may take as long as one of 64."""

    def __init__(self) -> None:
        self._ns = 1_000_000_000

    def __call__(self) -> int:
        self._ns += 1_000
        return self._ns

    def drive(self, patch: pytest.MonkeyPatch) -> None:
        forward = ModelRunner._forward

        def timed(runner: ModelRunner, batch: Batch) -> Any:
            self._ns += 400_000 + 50_000 * batch.num_tokens
            return forward(runner, batch)

        patch.setattr(ModelRunner, "_forward", timed)
        patch.setattr("engine.llm.EngineCore", partial(EngineCore, clock=self))
        patch.setattr("time.monotonic_ns", self)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        Clock().drive(patch)
        return recorded(tmp_path_factory.mktemp("cache"))


def recorded(cache_dir: Path) -> Run:
    """Four requests decode; one with a long prompt comes, then one more than there are seats."""
    bus = Bus()
    config = EngineConfig(
        model="random:tiny", dtype="float32", device="cpu", num_threads=1, max_model_len=256,
        num_gpu_blocks_override=27, enable_prefix_caching=False,
        scheduler=SchedulerConfig(max_num_seqs=5, max_num_batched_tokens=CHUNK),
    )  # fmt: skip
    engine = LLMEngine(config, cache_dir, bus.publish)
    params = SamplingParams(temperature=0.0, max_tokens=90, ignore_eos=True)
    for number in range(4):
        engine.add_request(f"steady-{number}", [number + i for i in range(12)], params)
    for _ in range(20):
        engine.step()
    short = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
    engine.add_request("intruder", [i % 90 for i in range(150)], short)
    engine.add_request("late", [i % 80 for i in range(100)], short)
    while engine.has_unfinished_requests:
        engine.step()
    state = SessionState()
    for seq, event in enumerate(bus.read(0, 10_000)[1], 1):
        state.apply(event, seq)
    return Run(bus, state)


def explanations(state: SessionState, view: RequestView) -> list[Explanation]:
    explainer = Explainer(state)
    found = [explainer.token(view, at) for at in range(len(view.token_steps))]
    assert all(found)
    return [explanation for explanation in found if explanation is not None]


def test_parts_of_every_token_sum_to_its_gap(run: Run) -> None:
    for view in run.state.requests.done:
        told = explanations(run.state, view)
        assert [e.total_ns for e in told] == [view.ttft_ns, *view.itl_ns]
        for explanation in told:
            assert sum(part.ns for part in explanation.parts) == explanation.total_ns
            assert min(part.ns for part in explanation.parts) > 0
            assert not any(part.detail == "lost" for part in explanation.parts)


def test_the_intruder_is_named_in_the_steps_that_carried_it(run: Run) -> None:
    intruder, steady = run.view("intruder"), run.view("steady-0")
    carried = {
        step.step: row.prefill_tokens
        for step in run.of(Step)
        for row in step.rows
        if row.request == intruder.request and row.prefill_tokens
    }
    assert sum(carried.values()) == 150 and max(carried.values()) == CHUNK - 4
    told = dict(zip(steady.token_steps, explanations(run.state, steady), strict=True))
    for step, tokens in carried.items():
        parts = [p for p in told[step].parts if p.request == intruder.request]
        assert [(p.cause, p.tokens) for p in parts] == [("prefill", tokens)]
    at = list(steady.token_steps).index(min(carried))
    line = Explainer(run.state).line(steady, at)
    assert line.startswith(f"{steady.name} token {at + 1} ") and " = own ~" in line
    assert f"prefill of {intruder.name} ~" in line and "(60 tokens)" in line


def test_the_time_to_the_first_token_shows_chunks_and_what_was_waited_for(run: Run) -> None:
    first = explanations(run.state, run.view("intruder"))[0]
    chunks = [p for step in first.steps for p in step.parts if p.cause == "chunk"]
    assert [p.tokens for p in chunks] == [60, 60, 30]
    late = explanations(run.state, run.view("late"))[0]
    assert {p.detail for p in late.parts if p.cause == "waits"} >= {"seats"}


def test_a_preempted_request_says_so_and_recomputes(run: Run) -> None:
    preempted = run.of(RequestPreempted)
    assert preempted
    for event in preempted:
        view = run.state.requests.get(event.request)
        assert view is not None
        told = next(e for e in explanations(run.state, view) if e.begin_ns <= event.t_ns < e.end_ns)
        causes = {part.cause: part for part in told.parts}
        assert causes["preempted"].detail == "pages"
        assert causes["recompute"].tokens >= event.lost_tokens


def test_the_recording_explains_alike(run: Run, tmp_path: Path) -> None:
    tape = Tape(tmp_path / "run.db", run.bus, Follower(run.bus))
    tape.finish()
    reader = SessionReader(tmp_path / "run.db")
    replayed = reader.state_at(reader.end_ns)
    for live in run.state.requests.done:
        view = replayed.requests.get(live.request)
        assert view is not None
        assert explanations(replayed, view) == explanations(run.state, live)
    reader.close()
