"""How fast the kernels of a window read and computed, a part of the step at a time.

A kernel's own bytes are not known from its name; those of a part are, from the shapes of the steps
(profiler/roofline.py), as long as each of the window's steps is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from profiler.events import KernelWindow, SessionStart, Step
from profiler.roofline import NS_PER_S, Work, attention_work, floor_ns, linear_work

_WORK_OF: Final[dict[str, Callable[[SessionStart, Step], Work | None]]] = {
    "linear": linear_work,
    "attention": attention_work,
}


class PartRate(NamedTuple):
    """`time_ns` of all its kernels in the window; `share` of the least time they could take, None
    where the device's ceilings were not measured; `limit` is "memory" or "matmul", by which of the
    two ceilings the least time is set, "" with no ceilings."""

    part: str
    time_ns: int
    mem_bytes_per_s: float
    flops_per_s: float
    share: float | None
    limit: str


def part_rates(
    session: SessionStart, window: KernelWindow, steps: Sequence[Step | None]
) -> list[PartRate]:
    """Of each part that took time and whose work is known; `steps` are the window's, None for one
    that is not kept."""
    rates = []
    for part, work_of in _WORK_OF.items():
        time_ns = sum(row.time_ns for row in window.kernels if row.part == part)
        works = [None if step is None else work_of(session, step) for step in steps]
        known = [work for work in works if work is not None]
        if time_ns and known and len(known) == len(works):
            rates.append(_rate(session, part, time_ns, known))
    return rates


def _rate(session: SessionStart, part: str, time_ns: int, works: list[Work]) -> PartRate:
    # The least time of each step by itself: a prefill and a decode step have unlike limits.
    floors = [floor_ns(session, work) for work in works]
    least_ns = sum(floor for floor in floors if floor is not None)
    total = Work(sum(work.mem_bytes for work in works), sum(work.flops for work in works))
    per_s = NS_PER_S / time_ns
    return PartRate(
        part,
        time_ns,
        total.mem_bytes * per_s,
        total.flops * per_s,
        least_ns / time_ns if least_ns else None,
        _limit(session, total),
    )


def _limit(session: SessionStart, work: Work) -> str:
    read, matmul = session.read_bytes_per_s, session.matmul_flops_per_s
    if not read or not matmul:
        return ""
    return "memory" if work.mem_bytes / read > work.flops / matmul else "matmul"
