"""`--slow`: frames of a thin line are paid for before the next is painted."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop import app as app_module
from llmtop.app import LlmtopApp
from llmtop.cost import MAX_SLOW_BYTES, CountingDriver, Pace
from llmtop.viewing import Viewing
from profiler.state import SessionState

S = 1_000_000_000


def written(num_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    total = CountingDriver.bytes_written + num_bytes
    monkeypatch.setattr(CountingDriver, "bytes_written", total)


def test_what_is_painted_in_any_stretch_of_time_is_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pace, total = Pace(), 0
    assert pace.may_paint(100 * S)
    for second in range(101, 400):
        size = 3 * MAX_SLOW_BYTES if second % 7 else 500
        if pace.may_paint(second * S):
            total += size
            written(size, monkeypatch)
        assert total <= MAX_SLOW_BYTES * (second - 100) + 3 * MAX_SLOW_BYTES
    assert total > 0.8 * MAX_SLOW_BYTES * 290, "and the line is used"


def test_small_frames_are_all_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace()
    for second in range(100, 130):
        assert pace.may_paint(second * S)
        written(MAX_SLOW_BYTES // 2, monkeypatch)


async def test_a_frame_that_is_left_out_still_looks_at_the_source(
    busy_state: SessionState, source_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, polls = source_of(busy_state), 0
    app = LlmtopApp(source, viewing=Viewing(slow=True))

    def poll(now_ns: int) -> SessionState:
        nonlocal polls
        polls += 1
        return busy_state

    shown: list[object] = []
    async with app.run_test(size=(80, 24)):
        monkeypatch.setattr(source, "poll", poll)
        monkeypatch.setattr(app._dashboard, "show", shown.append)
        app._tick()
        assert (polls, len(shown)) == (1, 1)
        written(100 * MAX_SLOW_BYTES, monkeypatch)
        app._tick()
        assert (polls, len(shown)) == (2, 1)


@pytest.mark.parametrize(("slow", "period_s"), [(True, 1.0), (False, 0.25)])
async def test_it_paints_once_a_second(
    busy_state: SessionState,
    source_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    slow: bool,
    period_s: float,
) -> None:
    seen: list[float] = []
    app = LlmtopApp(source_of(busy_state), viewing=Viewing(slow=slow))
    before = LlmtopApp.set_interval

    def set_interval(self: Any, interval: float, *given: Any, **more: Any) -> Any:
        seen.append(interval)
        return before(self, interval, *given, **more)

    monkeypatch.setattr(app_module.LlmtopApp, "set_interval", set_interval)
    async with app.run_test(size=(80, 24)):
        assert period_s in seen
    assert ("--slow" in Viewing(slow=slow).flags) == slow
