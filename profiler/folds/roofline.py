"""How close the steps of the newest seconds came to what the device can do."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import msgspec

from profiler.events import SessionStart, Step
from profiler.folds.clock import NS_PER_S, Clock
from profiler.roofline import busy_ns, floor_ns, work_of

WINDOW_S: Final = 5


class WorkTally(msgspec.Struct, array_like=True):
    """Of one second: the steps whose work is known. `floor_ns` is the least time for them."""

    second: int
    busy_ns: int = 0
    mem_bytes: float = 0.0
    flops: float = 0.0
    floor_ns: float = 0.0
    new_tokens: int = 0


class RooflineFrame(msgspec.Struct, array_like=True):
    tallies: list[WorkTally] = []
    session: SessionStart | None = None


class Rates(NamedTuple):
    """While the device computed, not over all time. A share is of its ceiling, 1 is all of it and
    more is a ceiling that was measured too low, or bytes that came out of a cache; None where the
    ceiling is not known."""

    mem_bytes_per_s: float
    flops_per_s: float
    read_share: float | None
    matmul_share: float | None


class Roofline:
    """Over the newest 5 seconds, the one that runs included."""

    window_s: Final = WINDOW_S

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tallies: deque[WorkTally] = deque()
        self._session: SessionStart | None = None

    def start(self, session: SessionStart) -> None:
        self._session = session
        self._tallies.clear()

    def step(self, event: Step, new_tokens: int) -> None:
        session = self._session
        work = None if session is None else work_of(session, event)
        if session is None or work is None:
            return
        second = self._clock.second
        if not self._tallies or self._tallies[-1].second != second:
            self._tallies.append(WorkTally(second))
        tally = self._tallies[-1]
        tally.busy_ns += busy_ns(event)
        tally.mem_bytes += work.mem_bytes
        tally.flops += work.flops
        tally.floor_ns += floor_ns(session, work) or 0.0
        tally.new_tokens += new_tokens

    def trim(self) -> None:
        while self._tallies and self._tallies[0].second <= self._clock.second - WINDOW_S:
            self._tallies.popleft()

    @property
    def rates(self) -> Rates | None:
        """None when nothing was computed in the window, or its work is not known."""
        first = self._clock.second - WINDOW_S
        tallies = [tally for tally in self._tallies if tally.second > first]
        busy_s = sum(tally.busy_ns for tally in tallies) / NS_PER_S
        if busy_s <= 0 or self._session is None:
            return None
        mem_bytes_per_s = sum(tally.mem_bytes for tally in tallies) / busy_s
        flops_per_s = sum(tally.flops for tally in tallies) / busy_s
        read, matmul = self._session.read_bytes_per_s, self._session.matmul_flops_per_s
        return Rates(
            mem_bytes_per_s,
            flops_per_s,
            mem_bytes_per_s / read if read else None,
            flops_per_s / matmul if matmul else None,
        )

    def possible_per_s(self, second: int) -> float | None:
        """Output tokens per second if that second's steps had followed one another without a gap,
        each in its least time; None without a ceiling, or a step with tokens."""
        found = (tally for tally in reversed(self._tallies) if tally.second == second)
        tally = next(found, None)
        if tally is None or not tally.floor_ns or not tally.new_tokens:
            return None
        return tally.new_tokens * NS_PER_S / tally.floor_ns

    def freeze(self) -> RooflineFrame:
        return RooflineFrame(list(self._tallies), self._session)

    def thaw(self, frame: RooflineFrame) -> None:
        self._tallies.extend(frame.tallies)
        self._session = frame.session
