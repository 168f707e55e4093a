"""Sessions in which one thing goes wrong, told second by second."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.bus import Bus
from profiler.events import (
    AnyEvent,
    Finding,
    GpuSample,
    ModelShape,
    PageDelta,
    PageRun,
    RequestFinished,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)
from profiler.findings.watch import Watch, derive
from profiler.follower import Follower
from profiler.session.reader import SessionReader
from profiler.session.tape import Tape

MS = 1_000_000
S = 1_000_000_000
PAGES = 1000
BLOCK = 16


class Scene:
    """Writes down what an engine would tell. `t_ns` is now; every method but `events` adds."""

    def __init__(
        self, slo: str = "", measured: bool = True, ceilings: tuple[float, float] | None = None
    ) -> None:
        self._measured = measured
        self._read, self._matmul = ceilings or (None, None)
        shape = ModelShape(1 << 29, 1 << 29, 0, 0, 1024, 0) if ceilings else None
        self.t_ns = 100 * S
        self.events: list[AnyEvent] = []
        self.used = self.cached = 0
        self.waiting: list[int] = []
        self.running: list[int] = []
        self._step = self._pages = 0
        self._requests = 0
        config: dict[str, Any] = {"slo": slo} if slo else {}
        self.events.append(
            SessionStart(
                self.t_ns, 1_770_000_000 * S, "0.1.0", "made-up", "cuda:0", 28, PAGES, BLOCK,
                1 << 16, 1 << 30, 8192, 256, 2048, config, self._read, self._matmul, shape,
            )
        )  # fmt: skip

    def arrive(self, prompt: int = 32, max_tokens: int = 4000, start: bool = True) -> int:
        self._requests += 1
        number = self._requests
        name = f"cmpl-r{number}"
        self.events.append(RequestQueued(self.t_ns, number, name, prompt, max_tokens))
        self.waiting.append(number)
        if start:
            self.start(number)
        return number

    def start(self, number: int, cached: int = 0) -> None:
        self.waiting.remove(number)
        self.running.append(number)
        self.events.append(RequestScheduled(self.t_ns, number, cached))

    def preempt(self, number: int, lost: int = 100) -> None:
        self.running.remove(number)
        self.waiting.append(number)
        self.events.append(RequestPreempted(self.t_ns, number, "no free pages", lost))

    def resume(self, number: int) -> None:
        self.waiting.remove(number)
        self.running.append(number)
        self.events.append(RequestScheduled(self.t_ns, number, 0, True))

    def grow(self, used: int = 0, cached: int = 0) -> None:
        """So many pages more are used, and so many more cached."""
        last = self._pages + used
        runs = [PageRun("alloc", self._pages, used, 1)]
        runs += [PageRun(op, last, cached, 1) for op in ("alloc", "seal", "release")]
        self.events.append(PageDelta(self.t_ns, tuple(run for run in runs if run.count)))
        self._pages = last + cached
        self.used, self.cached = self.used + used, self.cached + cached

    def evict(self, count: int) -> None:
        self.events.append(PageDelta(self.t_ns, (PageRun("alloc", 0, count, 1),)))
        self.events.append(PageDelta(self.t_ns, (PageRun("seal", 0, count, 1),)))
        self.events.append(PageDelta(self.t_ns, (PageRun("release", 0, count, 1),)))
        self.events.append(PageDelta(self.t_ns, (PageRun("evict", 0, count, 0),)))

    def first_tokens(self, *numbers: int) -> None:
        self.events += [RequestFirstToken(self.t_ns, number) for number in numbers]

    def finish(self, number: int, tokens: int = 2) -> None:
        self.running.remove(number)
        self.events.append(RequestFinished(self.t_ns, number, "stop", tokens))

    def gpu(self, mhz: int, throttle: str = "") -> None:
        self.events.append(
            GpuSample(self.t_ns, 0, "NVIDIA H200", 1 << 30, 1 << 37, sm_mhz=mhz, throttle=throttle)
        )

    def step(
        self,
        ms: float = 12,
        prefill: dict[int, int] | None = None,
        device_ms: float | None = None,
        leaving: int = 0,
    ) -> None:
        """One step; those who run and are not prefilled get a token, `leaving` their last."""
        self._step += 1
        prompts = prefill or {}
        rows = [StepRow(n, tokens, 0) for n, tokens in prompts.items()]
        rows += [StepRow(n, 0, 1) for n in self.running if n not in prompts]
        end_ns = self.t_ns + round(ms * MS)
        device_ns = round((0.9 * ms if device_ms is None else device_ms) * MS)
        free = PAGES - self.used - self.cached
        self.events.append(
            Step(
                self.t_ns, end_ns, self._step, MS,
                device_ns if self._measured else None, tuple(rows), len(self.waiting),
                len(self.running) - leaving, self.used, self.cached, free,
                computed_tokens=sum(row.prefill_tokens + row.new_tokens for row in rows),
                sampled_rows=sum(row.new_tokens for row in rows),
            )
        )  # fmt: skip
        self.t_ns = end_ns

    def decode(self, seconds: float, ms: float = 12) -> None:
        until_ns = self.t_ns + round(seconds * S)
        while self.t_ns < until_ns:
            self.step(ms)


def numbered(events: list[AnyEvent]) -> Iterator[tuple[int, AnyEvent]]:
    return enumerate(events, 1)


@pytest.fixture
def scene() -> type[Scene]:
    return Scene


@pytest.fixture
def proved(tmp_path: Path) -> Callable[[list[AnyEvent]], list[Finding]]:
    """Records the events, holds every finding against its own SQL, and gives the findings."""

    def prove(events: list[AnyEvent]) -> list[Finding]:
        path = tmp_path / "session.db"
        bus = Bus()
        tape = Tape(path, bus, Follower(bus, watch=Watch(), publish=bus.publish))
        for i, event in enumerate(events):
            bus.publish(event)
            if i % 50 == 0:
                tape.flush()
        tape.flush()
        tape.finish()
        reader = SessionReader(path)
        told = [event for _, event in reader.events() if isinstance(event, Finding)]
        assert told == derive(reader.events()), "live and from the file are not the same"
        reader.close()
        for finding in told:
            check(path, finding)
        return told

    return prove


def check(path: Path, finding: Finding) -> None:
    """The file says what the finding says."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    rows = connection.execute(finding.sql).fetchall()
    assert len(rows) == 1
    found = {key: rows[0][key] for key in rows[0].keys()}
    assert found == pytest.approx(finding.evidence, rel=1e-9), finding
    connection.close()
