"""The parts of serve_gpu.py: orders, rows, stalls, summaries, tables, and engines in turns."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_process import EngineFailed, EngineProcess
from orders import Order, Settings, StallOrder, digest, from_message, to_message
from rows import SECTIONS, STALL, Row, rows_of
from stalls import measure
from summary import compare, summarise, unequal_tokens
from tables import table
from turns import Results, Turns

from profiler.events import Step, StepRow

TINY = Settings("random:tiny", {}, "float32", "cpu", 0.4, 256, 8, 256)
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("order", [Order([3, 4], [5, 6], 7), STALL])
def test_an_order_arrives_as_it_was_sent(order: Any) -> None:
    assert from_message(json.loads(json.dumps(to_message(order)))) == order


def test_prompts_are_the_same_each_time_and_inside_the_vocabulary() -> None:
    order = Order([5, 300], [1, 1])
    prompts = order.prompts(320)
    assert prompts == order.prompts(320)
    assert [len(prompt) for prompt in prompts] == [5, 300]
    assert all(3 <= token < 320 for prompt in prompts for token in prompt)


def test_a_digest_tells_apart_where_an_output_ends() -> None:
    assert digest([[1, 2], [3]]) != digest([[1], [2, 3]]) != digest([[12], [3]])


def test_the_mixed_row_is_the_one_that_vllm_was_measured_with() -> None:
    (row,) = rows_of(["mixed"], (), 0, 0)
    assert isinstance(row.order, Order)
    assert (sum(row.order.prompt_lens), row.order.num_output) == (142_827, 133_966)


def test_every_section_has_rows_and_a_table() -> None:
    for section in SECTIONS:
        for row in rows_of([section], (1,), 8, 4):
            assert row.section == section
            assert row.longest >= row.num_streams or section != "stall"
            line = summarise(row, "llmtop", [_sample(section)])
            (compared,) = compare([line])
            assert compared["advantage"] == 1.0
            assert f"| {row.label} | llmtop |" in table(section, [compared])


def _sample(section: str) -> dict[str, Any]:
    if section == "stall":
        names = ("itl_p50_ms", "itl_p99_ms", "itl_max_ms", "num_arrivals", "num_gaps")
        return dict.fromkeys(names, 3.0)
    return {"seconds": 2.0, "prefill_s": 0.5, "tokens": "abc"}


def test_step_time_is_what_the_call_takes_beyond_its_prefill() -> None:
    (row,) = rows_of(["decode"], (4,), 128, 101)
    samples = [{"seconds": s, "prefill_s": p, "tokens": "a"} for s, p in ((9, 1), (3, 1), (2, 1))]
    line = summarise(row, "vllm", samples)
    assert line["step_ms"] == pytest.approx(20.0)
    assert line["tok_s"] == pytest.approx(4 * 101 / 3)
    assert (line["seconds_min"], line["seconds_max"]) == (2, 9)


def test_tokens_that_differ_between_rounds_are_told() -> None:
    (row,) = rows_of(["decode"], (1,), 8, 4)
    samples = [{"seconds": 1.0, "tokens": tokens} for tokens in ("a", "b")]
    lines = compare([summarise(row, engine, samples) for engine in ("llmtop", "vllm")])
    assert unequal_tokens(lines) == ["decode 1 x 8 -> 4"]
    assert "a/b DIFFER" in table("decode", lines)


class FakeStepper:
    """A token for each stream in 10 ms; a step that a prompt comes into takes 100 ms more."""

    vocab_size = 100

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[str] = []
        self.streams: list[str] = []

    def add(self, name: str, prompt: Sequence[int], num_output: int) -> None:
        (self.streams if num_output > 1 else self.waiting).append(name)

    def step(self) -> dict[str, int]:
        self.now += 0.01 + 0.1 * len(self.waiting)
        given, self.waiting = dict.fromkeys([*self.streams, *self.waiting], 1), []
        return given

    def drop(self, names: Sequence[str]) -> None:
        self.streams = [name for name in self.streams if name not in names]


def test_gaps_between_tokens_show_the_steps_that_prompts_came_into() -> None:
    stepper = FakeStepper()
    order = StallOrder(2, 8, 16, rate_per_s=1.0, seconds=3.0)
    found = measure(stepper, order, 10_000, clock=lambda: stepper.now)
    assert found["num_arrivals"] == 3
    assert found["itl_p50_ms"] == 10.0
    assert found["itl_max_ms"] == 110.0
    assert found["num_gaps"] % 2 == 0  # each stream gets its token in each step
    assert stepper.streams == []


def test_a_stream_that_ends_too_early_is_an_error_and_none_is_left_behind() -> None:
    stepper = FakeStepper()
    with pytest.raises(ValueError, match="all its tokens"):
        measure(stepper, StallOrder(2, 8, 16, 1.0, 3.0), 50, clock=lambda: stepper.now)
    assert stepper.streams == []


def test_our_own_engine_steps_through_a_stall() -> None:
    from llmtop_engine import create

    engine = create(TINY)
    order = StallOrder(3, 8, 32, rate_per_s=1.0, seconds=4.0)
    ticks = iter(range(100_000))
    found = measure(engine.stepper, order, 200, clock=lambda: next(ticks) / 20)
    assert found["num_arrivals"] == 4 and found["num_gaps"] > 3 * 4
    assert not engine._llm._engine.has_unfinished_requests
    assert len(engine.generate([[5, 6]], [3]).outputs[0]) == 3


def test_step_facts_leave_out_what_is_not_decode_alone() -> None:
    from llmtop_engine import step_facts

    def step(end_ms: int, prefill: int, device_ms: int) -> Step:
        rows = (StepRow(1, prefill, 1),)
        ns = 1_000_000
        end_ns = end_ms * ns
        return Step(0, end_ns, 1, ns, device_ms * ns, rows, 0, 1, 1, 0, 1)

    steps = [step(50, 8, 40), step(60, 0, 5), step(66, 0, 6), step(73, 0, 7), step(99, 8, 20)]
    facts = step_facts(steps)
    assert (facts["interval_ms"], facts["device_ms"], facts["host_ms"]) == (6.5, 6, 1)
    assert facts["gap_us"] is None
    assert step_facts(steps[:2]) == {}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_an_engine_process_answers_goes_on_after_an_error_and_ends() -> None:
    deadline = time.monotonic() + 300
    engine = EngineProcess("llmtop", TINY, environment(), deadline)
    try:
        first = engine.ask(Order([4, 6], [3, 2]), deadline)
        with pytest.raises(EngineFailed, match="InvalidRequestError"):
            engine.ask(Order([5000], [1]), deadline)
        again = engine.ask(Order([4, 6], [3, 2]), deadline)
    finally:
        engine.close()
    assert first["tokens"] == again["tokens"]
    assert engine.facts["dtype"] == "float32" and not engine.is_alive


def test_an_engine_that_cannot_be_loaded_says_why() -> None:
    with pytest.raises(EngineFailed, match="nothing_engine"):
        EngineProcess("nothing", TINY, environment(), time.monotonic() + 60)


class FakeProcess:
    """An engine that fails, or is gone, from its nth order on."""

    is_alive = True

    def __init__(self, name: str, fails_at: int | None = None) -> None:
        self.name, self.facts = name, {"name": name}
        self._left = fails_at
        self.closed = False
        self.answer: dict[str, Any] = {"seconds": 1.0, "tokens": "t"}

    def ask(self, order: Order, deadline: float) -> dict[str, Any]:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise EngineFailed("it caught fire")
        return dict(self.answer)

    def close(self) -> None:
        self.closed = True


def engines_of(engines: dict[str, FakeProcess]) -> Any:
    return lambda name, deadline: engines[name]


def test_a_stall_is_measured_without_a_warm_up() -> None:
    engines = {"llmtop": FakeProcess("llmtop"), "vllm": FakeProcess("vllm")}
    results = Results(lambda now: None)
    for engine in engines.values():
        engine.answer = {"itl_p50_ms": 1.0, "itl_p99_ms": 2.0, "itl_max_ms": 3.0, "num_gaps": 9}
    rows = list(rows_of(["stall"], (1,), 8, 4))
    Turns(1, time.monotonic() + 300, results).run(list(engines), engines_of(engines), rows)
    assert [s["engine"] for s in results.samples] == ["llmtop", "vllm"]
    assert [line["itl_p99_ms"] for line in results.lines] == [2.0, 2.0]


def test_an_engine_that_fails_keeps_its_samples_and_stops_no_other() -> None:
    engines = {"llmtop": FakeProcess("llmtop"), "vllm": FakeProcess("vllm", fails_at=3)}
    written: list[int] = []
    results = Results(lambda now: written.append(len(now.samples)))
    rows: list[Row] = list(rows_of(["decode"], (1, 2), 8, 4))
    start: Any = engines_of(engines)
    Turns(3, time.monotonic() + 300, results).run(list(engines), start, rows)
    kept = [(s["engine"], s["row"]) for s in results.samples]
    assert kept.count(("llmtop", rows[0].label)) == 3
    assert kept.count(("vllm", rows[0].label)) == 1  # a warm-up, and one of whole and prefill
    assert kept.count(("llmtop", rows[1].label)) == 3
    assert written == [4, 7]
    assert all(engine.closed for engine in engines.values())
