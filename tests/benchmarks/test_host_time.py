"""The parts of a step's host time are parts of real steps that decode."""

from __future__ import annotations

from host_time import PARTS, Bench


def test_every_part_is_timed_in_every_step_and_no_part_twice() -> None:
    bench = Bench(3, num_prompt=8, num_steps=20)
    steps = bench.run()
    assert len(steps) == 20
    for step in steps:
        assert all(step[part] > 0 for part in PARTS)
        assert sum(step[part] for part in PARTS) <= step["step"]
    assert bench.core._scheduler.num_running == 3
    bench.core.check()


def test_steps_decode_all_rows_and_tell_their_events() -> None:
    bench = Bench(3, num_prompt=8, num_steps=20)
    before = bench.num_events
    assert len(bench.step_ns()) == 20
    assert bench.num_events - before >= 20
    assert bench.core._scheduler.plan().num_decode == 3
