"""The cost of observing on the screen, and that no viewer takes an unobserved turn for a rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from llmtop.app import LlmtopApp
from llmtop.backlog import Backlog
from llmtop.screens.observer import ObserverScreen
from llmtop.viewing import Viewing
from llmtop.widgets.observercost import observer_rows
from llmtop.widgets.rows import plain, width_of
from profiler.events import AnyEvent, Log, ObserverCost, ObserverTurn, Step

MS = 1_000_000
TextOf = Callable[[Any], str]
OFF, ON = ObserverTurn(False, 40, 40 * 20 * MS), ObserverTurn(True, 40, 40 * 21 * MS)
DONE = ObserverCost(9, 0, "done", (OFF, ON, ON, OFF) * 6)


def text(event: ObserverCost, width: int = 76) -> str:
    rows = observer_rows(event, width)
    assert all(width_of(row) <= width for row in rows)
    return " ".join(" ".join(plain(row).split()) for row in rows)


@pytest.mark.parametrize("width", [50, 76, 116])
def test_the_result_has_both_steps_the_cost_its_interval_and_what_was_counted(width: int) -> None:
    said = text(DONE, width)
    assert "measured in 24 turns, then the time is up" in said
    assert "unobserved 20.000 ms a step 480 steps in 12 turns" in said
    assert "observed 21.000 ms a step 480 steps in 12 turns" in said
    assert "cost +1.000 ms a step, +4.76 % of it" in said
    assert "95 % interval +4.76 to +4.76 % (+1.000 to +1.000 ms)" in said
    assert "chance" not in said


def test_what_is_within_chance_is_called_so() -> None:
    turns = tuple(
        ObserverTurn(i % 4 in (1, 2), 10, (200 + (i % 7) * (-1) ** i) * MS) for i in range(24)
    )
    assert "not to be told from chance" in text(ObserverCost(9, 0, "done", turns))


def test_a_cost_below_nothing_is_called_disturbed() -> None:
    turns = (replace(ON, observed=False), replace(OFF, observed=True)) * 12
    said = text(ObserverCost(9, 0, "done", turns))
    assert "cost -1.000 ms a step, -5.00 % of it" in said
    assert "other work on this machine is in these numbers" in said


def test_too_few_steps_are_called_so_and_give_no_number() -> None:
    said = text(ObserverCost(9, 0, "idle", (OFF, ON)))
    assert "then the engine came to rest" in said
    assert "too few steps: 1 of at least 6 pairs of turns" in said
    assert "start a load, then measure again" in said
    assert "took longer than 520 ms, or a prompt" in text(ObserverCost(9, 0, "done", (OFF, ON)))
    assert "ms a step" not in said
    assert "turn 3 of 24, as ever" in text(ObserverCost(9, 0, "observed", (OFF, ON)))
    assert "turn 1 of 24, unobserved" in text(ObserverCost(9, 0, "unobserved", ()))


def test_what_waited_stands_where_it_belongs() -> None:
    told: list[AnyEvent] = []
    backlog = Backlog(told.append)

    def log(t_ns: int) -> Log:
        return Log(t_ns, "info", "server", str(t_ns))

    def step(end_ns: int) -> Step:
        return Step(end_ns - 5, end_ns, 1, 0, None, (), 0, 0, 0, 0, 0)

    backlog.publish(log(1))
    backlog.begin()
    backlog.publish(log(12))
    backlog.publish(log(22))
    assert told == [log(1)]
    # An order that its maker gave is kept, whatever the times are.
    late = [step(10), log(8), step(20)]
    backlog.end(late)
    assert told == [log(1), step(10), log(8), log(12), step(20), log(22)]
    backlog.end()
    backlog.publish(log(30))
    assert told[-1] == log(30)


def app_on(source: Any, viewing: Viewing) -> LlmtopApp:
    return LlmtopApp(source, "http://127.0.0.1:9", "key", viewing=viewing)


async def test_the_owner_has_it_measured_and_sees_the_turns(
    busy_source: Any, text_of: TextOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def answer(*order: object) -> str:
        asked.append(order)
        return ""

    monkeypatch.setattr("llmtop.screens.orderkeys.order_observer", answer)
    app = app_on(busy_source, Viewing(owner_key="mine"))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("O")
        await pilot.pause()
        assert "the engine begins" in text_of(app)
        state = busy_source.poll(0)
        state.observing.told(ObserverCost(state.t_ns, state.t_ns, "unobserved", (OFF, ON)))
        app.frame()
        await pilot.pause()
        assert "turn 3 of 24" in text_of(app)
        await pilot.press("O")
        app.frame()
        await pilot.pause()
        assert not isinstance(app.screen, ObserverScreen)
        assert "MEASURING" in text_of(app)
    assert asked == [("http://127.0.0.1:9", "key", "mine")]


@pytest.mark.parametrize(
    ("viewing", "said"),
    [
        (Viewing(), "measuring needs --control, of llmtop serve and here"),
        (Viewing(readonly=True, owner_key="mine"), "refused by --readonly"),
    ],
)
async def test_who_may_not_order_sees_what_is_there(
    busy_source: Any,
    text_of: TextOf,
    monkeypatch: pytest.MonkeyPatch,
    viewing: Viewing,
    said: str,
) -> None:
    monkeypatch.setattr(
        "llmtop.screens.orderkeys.order_observer", lambda *order: pytest.fail("it was ordered")
    )
    busy_source.poll(0).observing.told(DONE)
    app = app_on(busy_source, viewing)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("O")
        await pilot.pause()
        shown = text_of(app)
        assert "+4.76 % of it" in shown and said in shown


async def test_without_a_server_of_ours_one_line_says_why_not(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("O")
        await pilot.pause()
        assert "no engine of ours" in text_of(app)
        assert "not measured in this session so far" in text_of(app)
