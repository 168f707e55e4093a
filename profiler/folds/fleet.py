"""Several servers that are watched together, each by its own readings."""

from __future__ import annotations

from typing import Final

import msgspec

from profiler.events import MetricsSample, TargetState
from profiler.folds.clock import Clock
from profiler.folds.foreign import Foreign

MAX_TARGETS: Final = 64


class Replica:
    """`told` is the newest word on how it stands, `since_ns` when it began to stand so."""

    def __init__(self, told: TargetState, since_ns: int, foreign: Foreign) -> None:
        self.told = told
        self.since_ns = since_ns
        self.foreign = foreign

    @property
    def is_live(self) -> bool:
        """Whether its newest reading can be taken for the present."""
        known = self.foreign.last is not None and not self.foreign.is_stale
        return self.told.status == "up" and known

    @property
    def model(self) -> str:
        return "" if self.foreign.last is None else self.foreign.last.model


class ReplicaFrame(msgspec.Struct, array_like=True):
    told: TargetState
    since_ns: int
    samples: list[MetricsSample]


class Fleet:
    """`replicas` by number; none in a session of one server."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.replicas: dict[int, Replica] = {}

    def target(self, event: TargetState) -> None:
        known = self.replicas.get(event.target)
        if known is None:
            if len(self.replicas) < MAX_TARGETS:
                self.replicas[event.target] = Replica(event, event.t_ns, Foreign(self._clock))
            return
        if known.told.status != event.status:
            known.since_ns = event.t_ns
        known.told = event

    def sample(self, event: MetricsSample) -> None:
        replica = self.replicas.get(event.target)
        if replica is not None:
            replica.foreign.sample(event)

    @property
    def live(self) -> list[Replica]:
        """Those whose numbers can be taken for the present."""
        return [replica for replica in self.replicas.values() if replica.is_live]

    @property
    def last(self) -> MetricsSample | None:
        """The newest reading of all."""
        lasts = [r.foreign.last for r in self.replicas.values() if r.foreign.last is not None]
        return max(lasts, key=lambda sample: sample.t_ns, default=None)

    def freeze(self) -> list[ReplicaFrame]:
        return [
            ReplicaFrame(replica.told, replica.since_ns, list(replica.foreign.samples))
            for replica in self.replicas.values()
        ]

    def thaw(self, frames: list[ReplicaFrame]) -> None:
        for frame in frames:
            foreign = Foreign(self._clock)
            foreign.samples.extend(frame.samples)
            self.replicas[frame.told.target] = Replica(frame.told, frame.since_ns, foreign)
