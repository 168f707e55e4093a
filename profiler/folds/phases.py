"""What start-up and shutdown went through."""

from __future__ import annotations

from typing import Final

import msgspec

from profiler.events import Phase

MAX_SPANS: Final = 64


class PhaseSpan(msgspec.Struct, array_like=True):
    """From the first to the newest event of one phase; `done` of `total` as of that event.
    `total` 0 means that the end is not known."""

    name: str
    t_ns: int
    t_last_ns: int
    done: int
    total: int
    unit: str


class Phases:
    """`spans` in the order in which they began; the last one lasts."""

    def __init__(self) -> None:
        self.spans: list[PhaseSpan] = []

    @property
    def last(self) -> PhaseSpan | None:
        return self.spans[-1] if self.spans else None

    def phase(self, event: Phase) -> None:
        span = self.last
        if span is None or span.name != event.name:
            if span is not None:
                span.t_last_ns = max(span.t_last_ns, event.t_ns)
            del self.spans[: len(self.spans) - MAX_SPANS + 1]
            span = PhaseSpan(event.name, event.t_ns, event.t_ns, 0, 0, "")
            self.spans.append(span)
        span.t_last_ns = event.t_ns
        span.done, span.total, span.unit = event.done, event.total, event.unit
