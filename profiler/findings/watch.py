"""Turns what rules see, second by second, into findings that open, last and close."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from profiler.conditions import Condition
from profiler.events import AnyEvent, Finding
from profiler.findings.ceilings import COMPUTE_BOUND, MEMORY_BOUND
from profiler.findings.clients import SlowClient
from profiler.findings.clocks import ClockThrottle
from profiler.findings.fleet import fleet_rules
from profiler.findings.host import HostBound
from profiler.findings.moment import Moment, Timeline
from profiler.findings.objective import ObjectiveMissed
from profiler.findings.pages import PagesRunOut, PreemptionStorm
from profiler.findings.prefix import PrefixThrash
from profiler.findings.queue import QueueGrowth
from profiler.findings.rule import Rule, Signal
from profiler.findings.stalls import PrefillStall
from profiler.objectives import request_bounds
from profiler.state import SessionState

NS_PER_S: Final = 1_000_000_000


def cause_rules() -> list[Rule]:
    """Those that look for a cause, whatever the objectives are."""
    return [
        PrefillStall(),
        PagesRunOut(),
        PreemptionStorm(),
        PrefixThrash(),
        QueueGrowth(),
        HostBound(),
        MEMORY_BOUND,
        COMPUTE_BOUND,
        ClockThrottle(),
        SlowClient(),
        *fleet_rules(),
    ]


class Track:
    """One rule over time, at most one finding of it open."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._since_ns: int | None = None
        self._seen_ns = 0
        self._worst: Signal | None = None
        self._number = 0

    def look(self, moment: Moment, next_number: int) -> Finding | None:
        """The event to tell, if the finding opens or closes now."""
        now_ns, signal = moment.state.t_ns, self.rule.look(moment)
        if signal is not None:
            self._seen_ns = now_ns
            self._since_ns = now_ns if self._since_ns is None else self._since_ns
            if self._worst is None or signal.weight > self._worst.weight:
                self._worst = signal
            if not self._number and now_ns - self._since_ns >= self.rule.open_s * NS_PER_S:
                self._number = next_number
                return self._tell("open", now_ns, signal)
        elif not self._number:
            self._since_ns = self._worst = None
        elif now_ns - self._seen_ns >= self.rule.close_s * NS_PER_S:
            return self._close(now_ns)
        return None

    def _close(self, now_ns: int) -> Finding | None:
        if self._worst is None:
            return None
        told = self._tell("closed", now_ns, self._worst)
        self._since_ns, self._worst, self._number = None, None, 0
        return told

    def _tell(self, status: str, now_ns: int, signal: Signal) -> Finding:
        return Finding(
            now_ns,
            self._number,
            self.rule.name,
            self.rule.level,
            status,
            now_ns if self._since_ns is None else self._since_ns,
            signal.text,
            signal.request,
            signal.step,
            signal.evidence,
            signal.sql,
        )


class Watch:
    """Shown a state after each event, it looks once a second of the stream's own time, so that the
    same events give the same findings whoever shows them.

    With `objectives` it holds the session to them, else to those that the session itself names.
    `causes` False looks at the objectives alone.
    """

    def __init__(
        self, objectives: tuple[Condition, ...] | None = None, causes: bool = True
    ) -> None:
        self._given = objectives
        self._objectives: tuple[Condition, ...] = ()
        self._tracks = [Track(rule) for rule in (cause_rules() if causes else ())]
        self._timeline = Timeline()
        self._second = 0
        self._last_number = 0

    def look(self, state: SessionState) -> list[Finding]:
        """What is to be told after the newest event."""
        if state.second == self._second:
            return []
        first, self._second = self._second == 0, state.second
        self._hold_to(state.objectives if self._given is None else self._given)
        moment = self._timeline.moment(state)
        if first:
            return []
        return list(self._told(moment))

    def _hold_to(self, objectives: tuple[Condition, ...]) -> None:
        if objectives != self._objectives:
            self._objectives = objectives
            kept = [t for t in self._tracks if not isinstance(t.rule, ObjectiveMissed)]
            slo = request_bounds(objectives)
            self._tracks = [*kept, *(Track(ObjectiveMissed(o, slo)) for o in objectives)]

    def _told(self, moment: Moment) -> Iterable[Finding]:
        for track in self._tracks:
            told = track.look(moment, self._last_number + 1)
            if told is not None:
                self._last_number = max(self._last_number, told.finding)
                yield told


def derive(
    events: Iterable[tuple[int, AnyEvent]],
    objectives: tuple[Condition, ...] | None = None,
    state: SessionState | None = None,
) -> list[Finding]:
    """The findings of a whole session, from its events and their numbers, in order. They follow on
    `state` where it did not begin with nothing."""
    state, watch, told = state or SessionState(), Watch(objectives), []
    for seq, event in events:
        state.apply(event, seq)
        told += watch.look(state)
    return told
