from __future__ import annotations

import os

import pytest

from engine.server.pulse import BEAT_S, SILENT_S, STUCK_S, Watchdog, start_pulse

SILENT_TICKS = round(SILENT_S / BEAT_S)
STUCK_TICKS = round(STUCK_S / BEAT_S)


def beat(num_steps: int) -> bytes:
    return num_steps.to_bytes(8, "little")


@pytest.fixture
def watchdog() -> Watchdog:
    return Watchdog()


@pytest.mark.parametrize("has_work", [False, True])
def test_a_core_that_beats_no_more_is_told_of_until_it_beats_again(watchdog, has_work):
    for _ in range(SILENT_TICKS):
        assert watchdog.tick(has_work) == ""
    for _ in range(5):
        assert "no sign of life for 10 s" in watchdog.tick(has_work)
    watchdog.hear(beat(3))
    assert watchdog.tick(has_work) == ""


def test_a_slow_step_is_no_silence_but_an_endless_one_is_told_of(watchdog):
    for _ in range(STUCK_TICKS):
        watchdog.hear(beat(7))
        assert watchdog.tick(True) == ""
    watchdog.hear(beat(7))
    assert "in one step for 300 s" in watchdog.tick(True)
    watchdog.hear(beat(8))
    assert watchdog.tick(True) == ""


def test_a_core_without_work_need_not_make_steps(watchdog):
    for _ in range(2 * STUCK_TICKS):
        watchdog.hear(beat(7))
        assert watchdog.tick(False) == ""
    assert watchdog.tick(True) == ""  # the first step has only begun


def test_beats_that_waited_count_by_the_newest(watchdog):
    for step in range(2 * STUCK_TICKS):
        watchdog.hear(beat(0) + beat(step))
        assert watchdog.tick(True) == ""


def test_the_pulse_carries_the_number_of_steps():
    reader, writer = os.pipe()
    numbers = iter(range(41, 100))
    try:
        start_pulse(writer, lambda: next(numbers))
        assert os.read(reader, 8) == beat(41)
    finally:
        os.close(reader)  # the next beat ends the thread
