"""What a server of another kind says of itself: one reading of its metrics page."""

from __future__ import annotations

import msgspec

from profiler.event import Event


class Buckets(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A histogram since the server's start: `counts[i]` values were at most `edges[i]` seconds,
    `count` altogether, and `sum_s` is what they sum to."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    count: float
    sum_s: float


class MetricsSample(Event, frozen=True, gc=False):
    """`engine` names the kind of server. What the page does not tell is in none of the three.

    `gauges` hold for the moment; `counters` and `histograms` count from the server's start, so
    they mean something only beside an earlier sample. Keys are those of profiler.foreign.names.
    `wall_ns` is the Unix time of `t_ns`. `target` is which of several servers it is of, 0 where one
    is watched alone.
    """

    engine: str
    model: str
    gauges: dict[str, float]
    counters: dict[str, float]
    histograms: dict[str, Buckets]
    wall_ns: int = 0
    target: int = 0


class TargetState(Event, frozen=True, gc=False):
    """How it stands with one of several servers that are watched together, numbered from 1 in the
    order in which they were named.

    `status` is "asked" before the first answer, "up" once its page was read, and "down" at each try
    that failed, for the reason in `detail`. `name` is where it is, for people. `engine` and
    `version` are "" as long as it has not said.
    """

    target: int
    name: str
    status: str
    engine: str = ""
    version: str = ""
    detail: str = ""
