"""A position in a past that can be shown again, and the state there."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, Protocol

from llmtop.format import clock
from llmtop.places import EXPECTED, Stretch, step_number
from profiler.events import AnyEvent, Step
from profiler.folds.clock import NS_PER_S
from profiler.session.markers import Marker
from profiler.state import SessionState, time_of

# Going on over a longer stretch than this may cost more than going there by a keyframe: at 200
# steps a second 20 s took 270 ms, and any keyframe with what follows it 70 ms at most.
_LEAP_NS: Final = NS_PER_S


class Past(Protocol):
    """What happened from `start_ns` to `end_ns`: a session file, or the ring of a live source."""

    @property
    def start_ns(self) -> int: ...

    @property
    def end_ns(self) -> int: ...

    def state_at(self, t_ns: int) -> SessionState:
        """One of the caller's own, to go on from."""
        ...

    def events(self, after_seq: int = 0) -> Iterator[tuple[int, AnyEvent]]: ...

    def step(self, number: int) -> Step | None: ...


class Playhead:
    """Moves through `past`, wherever that is cheaper by folding on than by a keyframe."""

    def __init__(self, past: Past, state: SessionState) -> None:
        """Begins at `state`, which becomes its own."""
        self._past = past
        self._stand(state, state.t_ns)

    def _stand(self, state: SessionState, t_ns: int) -> None:
        self.state, self.t_ns = state, t_ns
        self._tape: Iterator[tuple[int, AnyEvent]] = iter(())
        self._ahead: tuple[int, AnyEvent] | None = None

    def jump(self, t_ns: int) -> None:
        """There by a keyframe."""
        self._stand(self._past.state_at(t_ns), t_ns)

    def run_to(self, t_ns: int) -> None:
        """Fold what happened up to `t_ns`, which is not before the state."""
        while (ahead := self._next()) is not None and time_of(ahead[1]) <= t_ns:
            self._fold(ahead)
        self.state.advance(t_ns)
        self.t_ns = t_ns

    def _next(self) -> tuple[int, AnyEvent] | None:
        """The event after the state. A past that grows may have one where it had none before."""
        if self._ahead is None:
            self._ahead = next(self._tape, None)
        if self._ahead is None:
            self._tape = iter(self._past.events(self.state.seq))
            self._ahead = next(self._tape, None)
        return self._ahead

    def _fold(self, ahead: tuple[int, AnyEvent]) -> None:
        seq, event = ahead
        self.state.apply(event, seq)
        self._ahead = None

    def seek(self, t_ns: int) -> None:
        """There, or to the nearest end."""
        start_ns, end_ns = self._past.start_ns, self._past.end_ns
        t_ns = max(start_ns, min(end_ns, t_ns))
        if max(self.t_ns, start_ns) == self.t_ns <= t_ns <= self.t_ns + _LEAP_NS:
            self.run_to(t_ns)
        else:
            self.jump(t_ns)

    def step(self, by: int) -> None:
        """One engine step on or back; stays where there is none."""
        if by > 0:
            self._step_on()
            return
        before = self.state.steps.newest(2)
        if len(before) == 2 and before[0].end_ns >= self._past.start_ns:
            self.seek(before[0].end_ns)

    def _step_on(self) -> None:
        if self.t_ns < self._past.start_ns:
            self.seek(self._past.start_ns)
        while (ahead := self._next()) is not None:
            self._fold(ahead)
            if isinstance(ahead[1], Step):
                self.run_to(ahead[1].end_ns)
                return
        self.t_ns = max(self.t_ns, self.state.t_ns)

    def mark(self, markers: list[Marker], by: int) -> None:
        """To the next or previous of `markers`, which are in order."""
        times = [marker.t_ns for marker in markers]
        at = bisect_right(times, self.t_ns) if by > 0 else bisect_left(times, self.t_ns) - 1
        if 0 <= at < len(times):
            self.seek(times[at])

    def go_to(self, text: str, stretch: Stretch) -> str:
        """ "" or why `text` is no place in `stretch`."""
        wanted = text.strip().lower()
        number = step_number(wanted)
        if number is not None:
            return self._go_to_step(number)
        t_ns = stretch.place(wanted)
        if t_ns is None:
            return f"write {EXPECTED}"
        if not stretch.start_ns <= t_ns <= stretch.end_ns:
            first, last = (clock(t - stretch.origin_ns) for t in (stretch.start_ns, stretch.end_ns))
            return f"there is {first} to {last}"
        self.seek(t_ns)
        return ""

    def _go_to_step(self, number: int) -> str:
        step = self._past.step(number)
        if step is None:
            return f"there is no step {number}"
        self.seek(step.end_ns)
        return ""
