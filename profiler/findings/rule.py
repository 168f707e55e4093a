"""What a rule is: it looks at a moment and says whether its cause shows, and by which numbers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from profiler.findings.moment import Moment


class Signal(NamedTuple):
    """The cause shows. `weight` tells how badly, to keep the worst of many; `evidence` are the
    numbers of `text`, and `sql` gives one row with the same names out of the session's file."""

    weight: float
    text: str
    evidence: dict[str, int | float]
    sql: str
    request: int = 0
    step: int = 0


class Rule(Protocol):
    """Pure: its answer follows from the moments it was shown.

    A finding opens once the rule has answered for `open_s` without a break, and closes once it has
    been silent for `close_s`: that is what keeps it from flapping.
    """

    @property
    def name(self) -> str: ...

    @property
    def level(self) -> str: ...

    @property
    def open_s(self) -> int: ...

    @property
    def close_s(self) -> int: ...

    def look(self, moment: Moment) -> Signal | None: ...
