"""The newest five minutes, one row a second: what charts draw and roll-ups keep."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from profiler.folds.gpus import GpuSecond

CAPACITY: Final = 300


class SecondRow(msgspec.Struct, frozen=True, array_like=True):
    """One whole second of the monotonic clock. Latencies are None when no value fell into it.

    Counts are of that second; `running`, `waiting` and pages stand as they were at its end.
    `possible_per_s`: the output tokens per second that the device's ceilings allow for its steps.
    """

    second: int
    steps: int
    prefill_tokens: int
    cached_tokens: int
    generated_tokens: int
    queued: int
    finished: int
    good: int
    failed: int
    preemptions: int
    running: int
    waiting: int
    pages_used: int
    pages_cached: int
    pages_free: int
    ttft_p95_ns: float | None
    itl_p50_ns: float | None
    itl_p95_ns: float | None
    itl_max_ns: float | None
    possible_per_s: float | None = None


class SecondsFrame(msgspec.Struct, array_like=True):
    rows: list[SecondRow]
    gpu_rows: list[GpuSecond]


class Seconds:
    """`rows` and `gpu_rows` of the newest 300 whole seconds, oldest first; seconds in which the
    state saw no event at all are there too, with zeros and None."""

    def __init__(self) -> None:
        self.rows: deque[SecondRow] = deque(maxlen=CAPACITY)
        self.gpu_rows: deque[GpuSecond] = deque(maxlen=4 * CAPACITY)

    def close(self, row: SecondRow, gpu_rows: list[GpuSecond]) -> None:
        self.rows.append(row)
        self.gpu_rows.extend(gpu_rows)

    def after(self, second: int) -> list[SecondRow]:
        """Rows newer than `second`, oldest first."""
        return [row for row in self.rows if row.second > second]

    def series(self, field: str) -> list[float | None]:
        """One column of `rows`, oldest first."""
        return [getattr(row, field) for row in self.rows]

    def freeze(self) -> SecondsFrame:
        return SecondsFrame(list(self.rows), list(self.gpu_rows))

    def thaw(self, frame: SecondsFrame) -> None:
        self.rows.extend(frame.rows)
        self.gpu_rows.extend(frame.gpu_rows)
