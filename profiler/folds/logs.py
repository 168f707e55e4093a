"""The newest lines of the log."""

from __future__ import annotations

from collections import deque
from typing import Final

from profiler.events import Log

CAPACITY: Final = 1024
MAX_TEXT: Final = 2000


class Logs:
    """`lines` holds the newest 1024, oldest first, each cut at 2000 characters; `counts` counts
    all there were by level."""

    def __init__(self) -> None:
        self.lines: deque[Log] = deque(maxlen=CAPACITY)
        self.counts: dict[str, int] = {}

    def log(self, event: Log) -> None:
        if len(event.text) > MAX_TEXT:
            event = Log(event.t_ns, event.level, event.source, event.text[:MAX_TEXT] + "…")
        self.lines.append(event)
        level = event.level[:16]
        if level in self.counts or len(self.counts) < 16:
            self.counts[level] = self.counts.get(level, 0) + 1

    def __len__(self) -> int:
        return len(self.lines)
