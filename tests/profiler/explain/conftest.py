"""Schedules that never ran, told step by step: the cause of every delay is known."""

from __future__ import annotations

import pytest

from profiler.events import (
    AnyEvent,
    GpuSample,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestScheduled,
    Step,
    StepRow,
)
from profiler.state import SessionState

MS = 1_000_000
Row = tuple[int, int, int]


class Schedule:
    """Folds what it is told. Times are in ms; every step has 1 ms of host time and begins 0.1 ms
    after the one before, unless it says otherwise."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.state = SessionState()
        self.now_ns = 1_000_000 * MS
        self.number = 0

    def tell(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.state.apply(event, len(self.events))

    def queue(self, *requests: int) -> None:
        for request in requests:
            self.tell(RequestQueued(self.now_ns, request, f"r-{request}", 100, 100))

    def rest(self, ms: float) -> None:
        self.now_ns += round(ms * MS)

    def step(
        self,
        *rows: Row,
        ms: float,
        host: float = 1.0,
        scheduled: tuple[int, ...] = (),
        preempted: tuple[int, ...] = (),
        graph: str = "",
        waits_for: str = "",
        device: bool = False,
        processor_wait: float | None = None,
    ) -> Step:
        """A step whose computation takes `ms`."""
        self.rest(0.1)
        begin_ns = self.now_ns
        for request in scheduled:
            view = self.state.requests.live[request]
            self.tell(RequestScheduled(begin_ns, request, 0, view.t_scheduled_ns is not None))
        for request in preempted:
            self.tell(RequestPreempted(begin_ns, request, "pages", 10))
        self.rest(ms + host)
        self.number += 1
        device_ns = round(ms * MS) if device else None
        step = Step(
            begin_ns, self.now_ns, self.number, round(host * MS), device_ns,
            tuple(StepRow(*row) for row in rows), int(bool(waits_for)), len(rows), 0, 0, 0,
            graph, waits_for,
            processor_wait_ns=None if processor_wait is None else round(processor_wait * MS),
        )  # fmt: skip
        firsts = [r for r, _, new in rows if new and self.state.requests.live[r].t_first_ns is None]
        self.tell(step)
        for request in firsts:
            self.tell(RequestFirstToken(self.now_ns, request))
        return step

    def start(self, *requests: int) -> None:
        """The requests come and are prefilled in one step."""
        self.queue(*requests)
        self.step(*((r, 100, 1) for r in requests), ms=20, scheduled=requests)

    def decode(
        self,
        *requests: int,
        steps: int = 1,
        ms: float = 10.0,
        graph: str = "",
        processor_wait: float | None = None,
    ) -> None:
        for _ in range(steps):
            rows = ((r, 0, 1) for r in requests)
            self.step(*rows, ms=ms, graph=graph, processor_wait=processor_wait)

    def gpu(self, sm_mhz: int, throttle: str = "") -> None:
        self.tell(
            GpuSample(self.now_ns, 0, "H200", 1, 2, util_pct=90.0, sm_mhz=sm_mhz, throttle=throttle)
        )


@pytest.fixture
def schedule() -> Schedule:
    return Schedule()


@pytest.fixture(scope="session")
def new_schedule() -> type[Schedule]:
    """The class: a test of many examples makes its own."""
    return Schedule
