"""What the engine found out about the cost of being observed."""

from __future__ import annotations

from typing import Final

import msgspec

from profiler.event import Event

TURN_NS: Final = 1_200_000_000
# Where steps take long, a turn goes on until so many were counted, but not for longer than this.
TURN_STEPS: Final = 5
MAX_TURN_NS: Final = 3_000_000_000
# Until the server, the recorder and a dashboard have done what the turn before left to them: they
# gather for 100, 250 and 250 ms.
SETTLE_NS: Final = 400_000_000
NUM_TURNS: Final = 24
LIMIT_NS: Final = 45_000_000_000  # where steps take long, turns do too


class ObserverTurn(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A turn that is over: of `num_steps` steps that only decoded, each from the end of the one
    before to its own, all together took `steps_ns`."""

    observed: bool
    num_steps: int
    steps_ns: int


class ObserverCost(Event, frozen=True, gc=False):
    """The engine measures what being observed costs, and tells so at the end of each turn.

    `status` is "observed" or "unobserved", the turn that begins here, or "done", or "idle" when
    the engine came to rest before. `turns` are those since `begin_ns`. Of an unobserved turn
    nothing is told before its end: then all of it, with the times at which it happened.
    """

    begin_ns: int
    status: str
    turns: tuple[ObserverTurn, ...]

    @property
    def withholds(self) -> bool:
        """Whether what happens from here on is told late."""
        return self.status == "unobserved"
