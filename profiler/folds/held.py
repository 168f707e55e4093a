"""When the engine stood still on purpose: the kernel profiler was being started, or read."""

from __future__ import annotations

from typing import Final

from profiler.events import KernelWindow

MOST: Final = 64


class Held:
    """`spans` are the newest (begin_ns, end_ns), oldest first; they do not overlap."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []

    def window(self, event: KernelWindow) -> None:
        end_cost_ns = event.cost_ns - event.start_cost_ns
        self.spans.append((event.begin_ns - event.start_cost_ns, event.begin_ns))
        self.spans.append((event.t_ns - end_cost_ns, event.t_ns))
        del self.spans[:-MOST]

    def ns_within(self, begin_ns: int, end_ns: int) -> int:
        """How much of this stretch it stood still."""
        return sum(max(0, min(end_ns, end) - max(begin_ns, begin)) for begin, end in self.spans)
