from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.config import SamplingParams
from engine.errors import InvalidRequestError, QueueFullError
from engine.request import EngineRequest, TokenOutput
from engine.server.core_process import CoreLoop
from engine.server.wire import Abort, Add, Command, Finish, Outputs, Refused, Report, Shutdown
from profiler.events import AnyEvent, Phase


class FakeEngine:
    """Each request gets one token a step until it is ended by a command."""

    def __init__(self, events: list[AnyEvent]) -> None:
        self.events = events
        self.running: list[int] = []
        self.refusal: Exception | None = None
        self.kept: list[AnyEvent] = []
        self.told_of_each: list[AnyEvent] = []
        self.num_steps = 0

    @property
    def has_work(self) -> bool:
        return bool(self.running)

    def add(self, request: EngineRequest) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.running.append(request.request)
        self.events += self.told_of_each

    def abort(self, request: int, reason: str) -> None:
        self.running.remove(request)
        self.events.append(Phase(0, f"aborted {request} {reason}"))

    def finish(self, request: int, reason: str) -> None:
        self.abort(request, reason)

    def close(self) -> None:
        self.events += self.kept

    def step(self) -> list[TokenOutput]:
        self.num_steps += 1
        self.events.append(Phase(self.num_steps, "step"))
        return [TokenOutput(number, [7]) for number in self.running]


class FakeLink:
    """Gives the commands of one list after each other; None is "nothing has come yet"."""

    def __init__(self, commands: list[Command | None]) -> None:
        self.commands = commands
        self.sent: list[Report] = []
        self.blocked_with_work: list[bool] = []

    def receive(self, *, block: bool) -> Command | None:
        command = self.commands.pop(0)
        while block and command is None:
            command = self.commands.pop(0)
        return command

    def send(self, report: Report) -> None:
        if isinstance(report, Outputs):
            report = Outputs(list(report.outputs), list(report.events))
        self.sent.append(report)


def add(number: int) -> Add:
    return Add(EngineRequest(number, "n", (1,), SamplingParams()))


def run(
    *commands: Command | None, refusal: Exception | None = None, kept: Sequence[AnyEvent] = ()
) -> list[Report]:
    events: list[AnyEvent] = []
    engine, link = FakeEngine(events), FakeLink([*commands, Shutdown()])
    engine.refusal, engine.kept = refusal, list(kept)
    CoreLoop(engine, link, events).run()
    return link.sent


def test_each_step_is_one_message_with_its_outputs_and_events():
    first, second = run(add(1), None, None)[:2]
    assert isinstance(first, Outputs) and isinstance(second, Outputs)
    assert first.outputs == second.outputs == [TokenOutput(1, [7])]
    assert [event.t_ns for event in (*first.events, *second.events)] == [1, 2]


def test_all_commands_that_wait_are_obeyed_before_a_step():
    before, first, *_ = run(add(1), add(2), Abort(1, "disconnect"), None)
    assert isinstance(before, Outputs) and isinstance(first, Outputs)
    assert [output.request for output in first.outputs] == [2]
    assert getattr(before.events[0], "name", "") == "aborted 1 disconnect"


def test_what_waits_is_told_before_the_step_that_it_waits_for():
    """It may take a minute, for which the screen said that there is no request."""
    events: list[AnyEvent] = []
    engine, link = FakeEngine(events), FakeLink([add(1), None, Shutdown()])
    engine.told_of_each = [Phase(9, "queued")]
    told_at_step: list[Report] = []
    step = engine.step
    engine.step = lambda: (told_at_step.extend(link.sent), step())[1]  # type: ignore[method-assign]
    CoreLoop(engine, link, events).run()
    assert told_at_step == [Outputs([], [Phase(9, "queued")])]


def test_what_happens_between_steps_and_at_the_end_is_told():
    reports = run(add(1), None, Finish(1, "stop"), None)
    told = [event.name for r in reports for event in r.events]  # type: ignore[union-attr]
    assert told == ["step", "aborted 1 stop"]
    last = run(add(1), None, Abort(1, "shutdown"))[-1]
    assert isinstance(last, Outputs)
    assert getattr(last.events[0], "name", "") == "aborted 1 shutdown"


def test_what_the_engine_kept_is_told_before_the_end():
    assert run(kept=[Phase(7, "kept")]) == [Outputs([], [Phase(7, "kept")])]


@pytest.mark.parametrize(
    ("refusal", "report"),
    [
        (QueueFullError("full"), Refused(1, True, "full")),
        (InvalidRequestError("bad", "top_p"), Refused(1, False, "bad", "top_p")),
    ],
)
def test_a_request_that_is_not_taken_is_refused(refusal, report):
    assert run(add(1), None, refusal=refusal) == [report]
