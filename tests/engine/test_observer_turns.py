"""The cost of being observed: what the turns count, and that they change no event."""

from __future__ import annotations

import pytest

from engine.config import SamplingParams
from engine.errors import InvalidRequestError
from engine.llm import LLM
from engine.observer_turns import ObserverTurns
from engine.telling import Telling
from profiler.events import (
    LIMIT_NS,
    MAX_TURN_NS,
    NUM_TURNS,
    SETTLE_NS,
    TURN_NS,
    TURN_STEPS,
    MemorySample,
    ObserverCost,
    PageKeyframe,
    Step,
)
from profiler.state import SessionState

MS = 1_000_000
OBSERVED = [False, True, True, False]


class Steps:
    """Steps for the turns to count, of `step_ns` each, and what they tell."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.events: list[object] = []
        self.telling = Telling(self.events.append)
        self.turns = ObserverTurns(self.telling, lambda: self.now_ns)

    def land(self, step_ns: int, only_decodes: bool = True) -> None:
        self.now_ns += step_ns
        self.turns.landed(only_decodes, self.now_ns)

    @property
    def last(self) -> ObserverCost:
        return [event for event in self.events if isinstance(event, ObserverCost)][-1]


def test_the_turns_alternate_so_that_drift_falls_out_and_then_end():
    steps = Steps()
    steps.turns.ask()
    while steps.turns.is_busy:
        # Told of, a step takes 1 ms longer; and each is a microsecond longer than the one before.
        steps.land((20 if steps.telling.is_holding else 21) * MS + steps.now_ns // 20_000)
    turns = steps.last.turns
    assert steps.last.status == "done"
    assert [turn.observed for turn in turns] == OBSERVED * (NUM_TURNS // 4)
    assert not steps.telling.is_holding
    means = [turn.steps_ns / turn.num_steps for turn in turns]
    costs = [on - off for off, on in zip(means[::4], means[1::4], strict=True)]
    costs += [on - off for on, off in zip(means[2::4], means[3::4], strict=True)]
    assert sum(costs) / len(costs) == pytest.approx(MS, rel=0.02)
    spent_ns = steps.last.t_ns - steps.last.begin_ns
    assert NUM_TURNS * TURN_NS <= spent_ns < NUM_TURNS * (TURN_NS + 30 * MS)


def test_the_time_to_settle_and_steps_beside_a_prefill_are_not_counted():
    steps = Steps()
    steps.turns.ask()
    while steps.now_ns < TURN_NS:
        steps.land(100 * MS)
    # A step counts from the end of the one before, so that is to be settled too.
    counted = (TURN_NS - SETTLE_NS) // (100 * MS)
    assert steps.last.turns[0].num_steps == counted
    assert steps.last.turns[0].steps_ns == counted * 100 * MS
    for _ in range(5):
        steps.land(100 * MS)
    steps.land(100 * MS, only_decodes=False)
    while len(steps.last.turns) < 2:
        steps.land(100 * MS)
    assert steps.last.turns[1].num_steps == counted - 2


def test_where_steps_take_long_turns_last_until_enough_are_counted():
    steps = Steps()
    steps.turns.ask()
    while steps.turns.is_busy:
        steps.land(400 * MS)
    turns = steps.last.turns
    assert {turn.num_steps for turn in turns} == {TURN_STEPS}
    assert len(turns) >= 12 and steps.last.t_ns < LIMIT_NS + MAX_TURN_NS
    steps.turns.ask()
    for _ in range(60):  # never two in a row that only decode
        steps.land(200 * MS, only_decodes=False)
        steps.land(200 * MS)
    assert [turn.num_steps for turn in steps.last.turns][:2] == [0, 0]
    assert len(steps.last.turns) == 60 * 400 * MS // MAX_TURN_NS


def test_where_steps_take_long_the_time_is_bounded_all_the_same():
    steps = Steps()
    steps.turns.ask()
    while steps.turns.is_busy:
        steps.land(4 * TURN_NS)
    assert (steps.last.status, len(steps.last.turns)) == ("done", 10)
    assert steps.last.t_ns < LIMIT_NS + 4 * TURN_NS and not steps.telling.is_holding


def plain_stream(bench) -> list[object]:
    """Without what is told of now and then, and without the measurement itself."""
    odd = (ObserverCost, MemorySample, PageKeyframe)
    return [event for event in bench.events if not isinstance(event, odd)]


def busy(bench) -> None:
    """More than the pages hold at once, one that ends early, and a prefill now and then."""
    for number in range(1, 30):
        bench.add(number, range(number, number + 9), max_tokens=20)
        for _ in range(3):
            bench.step()
        if number == 7:
            bench.core.abort(7, "disconnect")
    bench.run()


@pytest.mark.parametrize("ahead", [False, True])
def test_the_stream_is_the_same_as_without_a_measurement(core_bench, monkeypatch, ahead):
    monkeypatch.setattr("engine.observer_turns.TURN_NS", 20 * MS)
    monkeypatch.setattr("engine.observer_turns.SETTLE_NS", 5 * MS)
    measured = core_bench(num_pages=16, async_scheduling=ahead)
    plain = core_bench(num_pages=16, async_scheduling=ahead)
    for bench in (measured, plain):
        bench.add(100, range(5), max_tokens=3)
        bench.step()
    measured.core.measure_observer()
    plain.clock()  # the look at the clock with which a measurement begins
    for bench in (measured, plain):
        busy(bench)
    told = measured.of(ObserverCost)
    assert sum(turn.num_steps > 0 for turn in told[-1].turns) > 8
    assert plain_stream(measured) == plain_stream(plain)
    assert {type(event).__name__ for event in plain_stream(plain)} >= {"RequestPreempted", "Step"}
    assert measured.outputs == plain.outputs
    one, other = SessionState(), SessionState()
    for state, bench in ((one, measured), (other, plain)):
        for event in plain_stream(bench):
            state.apply(event)
    assert one.keyframe() == other.keyframe()


def test_nothing_is_told_in_an_unobserved_turn_and_all_of_it_at_its_end(core_bench):
    bench = core_bench()
    bench.add(1, range(6), max_tokens=8)
    bench.step()
    bench.core.measure_observer()
    assert bench.events[-1] == ObserverCost(bench.now_ns, bench.now_ns, "unobserved", ())
    num_told = len(bench.events)
    for _ in range(5):
        bench.step()
    assert len(bench.events) == num_told
    bench.run()
    assert len(bench.of(Step)) == len(bench.runner.plans)
    assert bench.of(ObserverCost)[-1].status == "idle"


@pytest.mark.parametrize("how", ["abort", "finish", "close"])
def test_whatever_ends_the_work_tells_what_was_kept(core_bench, how):
    bench = core_bench()
    bench.add(1, range(6), max_tokens=90)
    bench.step()
    bench.core.measure_observer()
    for _ in range(3):
        bench.step()
    if how == "close":
        bench.core.close()
    else:
        getattr(bench.core, how)(1, "stop")
    assert bench.of(ObserverCost)[-1].status == "idle"
    assert len(bench.of(Step)) == 4


def test_an_engine_at_rest_has_nothing_to_measure(core_bench):
    bench = core_bench()
    bench.core.measure_observer()
    assert [event.status for event in bench.of(ObserverCost)] == ["unobserved", "idle"]


def test_one_measurement_at_a_time_and_none_beside_a_window_of_kernels(core_bench):
    bench = core_bench()
    bench.add(1, range(6), max_tokens=50)
    bench.step()
    bench.core.measure_observer()
    with pytest.raises(InvalidRequestError, match="already"):
        bench.core.measure_observer()
    with pytest.raises(InvalidRequestError, match="is being measured"):
        bench.core.capture(1)
    bench.run()
    bench.core.capture(1)
    with pytest.raises(InvalidRequestError, match="captured"):
        bench.core.measure_observer()


def test_the_real_engine_is_measured_and_loses_no_step(monkeypatch):
    monkeypatch.setattr("engine.observer_turns.TURN_NS", 40 * MS)
    monkeypatch.setattr("engine.observer_turns.SETTLE_NS", 10 * MS)
    events: list[object] = []
    llm = LLM("random:tiny", emit=events.append, device="cpu", num_threads=1, max_model_len=512)
    llm._engine._core._turns.ask()
    params = SamplingParams(max_tokens=250, ignore_eos=True)
    llm.generate([list(range(3, 30))], [params])
    steps = [event for event in events if isinstance(event, Step)]
    last = [event for event in events if isinstance(event, ObserverCost)][-1]
    assert last.status in ("done", "idle")
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert sum(row.new_tokens for step in steps for row in step.rows) == 250
    assert any(turn.num_steps for turn in last.turns)
    assert sum(turn.steps_ns for turn in last.turns) <= last.t_ns - last.begin_ns
