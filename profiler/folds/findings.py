"""What was found, as the stream tells it."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from profiler.events import Finding

MAX_ENDED: Final = 256
MAX_OPEN: Final = 256


class FindingsFrame(msgspec.Struct, array_like=True):
    open: list[Finding] = []
    ended: list[Finding] = []
    num_alerts: int = 0


class Findings:
    """`open` by number, oldest first; `ended` the newest 256 that closed, oldest first;
    `num_alerts` counts the alerts there ever were."""

    def __init__(self) -> None:
        self.open: dict[int, Finding] = {}
        self.ended: deque[Finding] = deque(maxlen=MAX_ENDED)
        self.num_alerts = 0

    def finding(self, event: Finding) -> None:
        if event.status == "closed":
            self.open.pop(event.finding, None)
            self.ended.append(event)
            return
        self.num_alerts += event.level == "alert" and event.finding not in self.open
        if event.finding in self.open or len(self.open) < MAX_OPEN:
            self.open[event.finding] = event

    @property
    def alerts(self) -> list[Finding]:
        """Objectives that are missed now."""
        return [finding for finding in self.open.values() if finding.level == "alert"]

    def all(self) -> list[Finding]:
        """Those that ended, then those that are open; within each in order of time."""
        return [*self.ended, *self.open.values()]

    def freeze(self) -> FindingsFrame:
        return FindingsFrame(list(self.open.values()), list(self.ended), self.num_alerts)

    def thaw(self, frame: FindingsFrame) -> None:
        self.open = {finding.finding: finding for finding in frame.open}
        self.ended.extend(frame.ended)
        self.num_alerts = frame.num_alerts
