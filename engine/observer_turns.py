"""What being observed costs: the engine works in turns, told of and not, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.errors import InvalidRequestError
from engine.telling import Telling
from profiler.events import (
    LIMIT_NS,
    MAX_TURN_NS,
    NUM_TURNS,
    SETTLE_NS,
    TURN_NS,
    TURN_STEPS,
    ObserverCost,
    ObserverTurn,
)

# Both kinds have come equally often before each two turns: what changes evenly with time, as the
# contexts do, falls out of the whole.
_OBSERVED: Final = (False, True, True, False)


class ObserverTurns:
    """At most one measurement at a time, of `NUM_TURNS` turns, or until `LIMIT_NS` have passed or
    the engine comes to rest.

    In an unobserved turn no event is made or sent; both are made up for at its end.
    """

    def __init__(self, telling: Telling, clock: Callable[[], int]) -> None:
        self._telling = telling
        self._clock = clock
        self._turns: list[ObserverTurn] | None = None
        self._begin_ns = 0
        self._turn_ns = 0
        self._num_steps = 0
        self._steps_ns = 0
        self._decoded_ns = 0

    @property
    def is_busy(self) -> bool:
        return self._turns is not None

    def ask(self) -> None:
        """Begins now. Raises: InvalidRequestError while a measurement is under way."""
        if self.is_busy:
            raise InvalidRequestError("the cost of observing is being measured already")
        self._begin_ns = self._clock()
        self._turns = []
        self._begin_turn(self._begin_ns)

    def landed(self, only_decodes: bool, end_ns: int) -> None:
        """A step has ended and was told."""
        if self._turns is None:
            return
        if only_decodes and self._decoded_ns >= self._turn_ns + SETTLE_NS:
            self._num_steps += 1
            self._steps_ns += end_ns - self._decoded_ns
        self._decoded_ns = end_ns if only_decodes else 0
        enough = self._num_steps >= TURN_STEPS or end_ns - self._turn_ns >= MAX_TURN_NS
        if enough and end_ns - self._turn_ns >= TURN_NS:
            self._end_turn(self._turns, end_ns)

    def resting(self) -> None:
        """Nothing is to be done: a turn that has begun counts for nothing."""
        if self._turns is not None:
            self._end("idle", self._clock())

    def _end_turn(self, turns: list[ObserverTurn], end_ns: int) -> None:
        observed = _OBSERVED[len(turns) % len(_OBSERVED)]
        turns.append(ObserverTurn(observed, self._num_steps, self._steps_ns))
        if len(turns) < NUM_TURNS and end_ns - self._begin_ns < LIMIT_NS:
            self._begin_turn(end_ns)
        else:
            self._end("done", end_ns)

    def _begin_turn(self, t_ns: int) -> None:
        self._turn_ns, self._num_steps, self._steps_ns, self._decoded_ns = t_ns, 0, 0, 0
        observed = _OBSERVED[len(self._turns or ()) % len(_OBSERVED)]
        self._tell("observed" if observed else "unobserved", t_ns)
        if not observed:
            self._telling.hold()

    def _end(self, status: str, t_ns: int) -> None:
        self._tell(status, t_ns)
        self._turns = None

    def _tell(self, status: str, t_ns: int) -> None:
        self._telling.release()
        self._telling(ObserverCost(t_ns, self._begin_ns, status, tuple(self._turns or ())))
