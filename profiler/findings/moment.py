"""What rules look at: the state as a second closes, and the newest steps and seconds in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from profiler.events import Step
from profiler.folds.seconds import SecondRow
from profiler.state import SessionState

STEPS_S: Final = 10
_MAX_STEPS: Final = 4096
_SECONDS_KEPT: Final = 64


class StepTime(NamedTuple):
    """A step as others felt it. `ns` is from the end of the step before, or from its own beginning
    if that was later, to its end; `prefill` and `decoding` are the requests that had their prompt
    computed in it, with tokens, and those that got a token without."""

    step: int
    second: int
    end_ns: int
    ns: int
    device_ns: int | None
    num_running: int
    prefill: tuple[tuple[int, int], ...]
    decoding: tuple[int, ...]

    @property
    def prefill_tokens(self) -> int:
        return sum(tokens for _, tokens in self.prefill)


class Moment(NamedTuple):
    """The state after the first event of a second; `steps` are those of the newest 10 s whose
    predecessor is known, oldest first. `first_seqs` says with which event the newest seconds
    began."""

    state: SessionState
    steps: Sequence[StepTime]
    first_seqs: dict[int, int]

    def rows(self, span_s: int) -> list[SecondRow]:
        """The newest `span_s` closed seconds, oldest first; none if there are fewer."""
        rows = self.state.seconds.rows
        return [rows[i] for i in range(-span_s, 0)] if len(rows) >= span_s else []

    def seqs(self, span_s: int) -> str:
        """SQL: the events of the newest `span_s` seconds, including the one that runs."""
        first = self.first_seqs.get(self.state.second - span_s + 1, 1)
        return f"BETWEEN {first} AND {self.state.seq}"


class Timeline:
    """Remembers from one second to the next what a state alone does not tell."""

    def __init__(self) -> None:
        self._steps: deque[StepTime] = deque(maxlen=_MAX_STEPS)
        self._first_seqs: dict[int, int] = {}
        self._last: Step | None = None

    def moment(self, state: SessionState) -> Moment:
        """To be asked once a second, right after the first event of a new one."""
        self._first_seqs[state.second] = state.seq
        while len(self._first_seqs) > _SECONDS_KEPT:
            del self._first_seqs[next(iter(self._first_seqs))]
        for step in self._new_steps(state):
            if self._last is not None and self._last.step + 1 == step.step:
                self._steps.append(_step_time(step, self._last.end_ns))
            self._last = step
        while self._steps and self._steps[0].second < state.second - STEPS_S:
            self._steps.popleft()
        return Moment(state, self._steps, self._first_seqs)

    def _new_steps(self, state: SessionState) -> list[Step]:
        known = -1 if self._last is None else self._last.step
        return list(takewhile(lambda s: s.step > known, reversed(state.steps.ring)))[::-1]


def _step_time(step: Step, before_ns: int) -> StepTime:
    return StepTime(
        step.step,
        step.end_ns // 1_000_000_000,
        step.end_ns,
        step.end_ns - max(step.t_ns, before_ns),
        step.device_ns,
        step.num_running,
        tuple((row.request, row.prefill_tokens) for row in step.rows if row.prefill_tokens),
        tuple(row.request for row in step.rows if row.new_tokens and not row.prefill_tokens),
    )


STEP_TIMES: Final = (
    "SELECT step, prefill_tokens, new_tokens, "
    "end_ns - max(t_ns, lag(end_ns, 1, 0) OVER (ORDER BY step)) AS ns "
    "FROM step WHERE step BETWEEN {first} AND {last}"
)
"""SQL: `StepTime.ns` of steps after `first`."""
