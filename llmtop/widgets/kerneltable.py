"""A window of kernels as rows: what the device spent the time of some steps on."""

from __future__ import annotations

from statistics import fmean
from typing import Final

from llmtop.format import NONE, grouped, metric, ns_as_ms, percent, seconds
from llmtop.sanitize import clean_line
from llmtop.widgets.bar import bar
from llmtop.widgets.rows import EMPTY, Row, fit, flowed
from profiler.events import KernelRow, KernelWindow, SessionStart
from profiler.folds.steps import Steps
from profiler.kernel_rates import PartRate, part_rates

_PART: Final = 9
_NUMBERS: Final = f"{'ms/step':>9} {'share':>6} {'calls/step':>11} {'us each':>9}"
_BAR: Final = 16
_MIN_NAME: Final = 24


def kernel_rows(
    window: KernelWindow, session: SessionStart | None, steps: Steps, width: int
) -> list[Row]:
    """The window's head, how fast its parts were, then a line a kernel, the longest first."""
    total_ns, num_steps = sum(row.time_ns for row in window.kernels), max(1, window.num_steps)
    lines = [_line(row, num_steps, total_ns, width) for row in window.kernels]
    parts = _parts(window, session, steps, total_ns, width)
    head = _head(window, steps, total_ns, width)
    titles: Row = ((f"{_NUMBERS}  {_part_cell('part', width)}kernel", "dim"),)
    return [*head, *parts, EMPTY, titles, *lines]


def _head(window: KernelWindow, steps: Steps, total_ns: int, width: int) -> list[Row]:
    first, num_steps = window.first_step, max(1, window.num_steps)
    kind = "operators and loops of the CPU" if window.device_type == "cpu" else "kernels"
    meanwhile = _mean_ns(steps, range(first, first + num_steps))
    before = _mean_ns(steps, range(first - num_steps, first))
    parts: list[Row] = [
        ((f"steps {grouped(first)} to {grouped(first + num_steps - 1)}", "value"),),
        ((f"{total_ns / num_steps / 1e6:.3f} ms a step in {kind}", "text"),),
        ((f"a step took {ns_as_ms(meanwhile)} ms, before {ns_as_ms(before)}", "dim"),),
        ((f"the engine stood still for {seconds(window.cost_ns)} besides", "dim"),),
    ]
    return flowed(parts, width)


def _parts(
    window: KernelWindow, session: SessionStart | None, steps: Steps, total_ns: int, width: int
) -> list[Row]:
    if session is None:
        return []
    first = window.first_step
    ran = [steps.find(number) for number in range(first, first + window.num_steps)]
    rates = part_rates(session, window, ran)
    return [line for rate in rates for line in flowed(_part(rate, total_ns), width)]


def _part(rate: PartRate, total_ns: int) -> list[Row]:
    share = NONE if rate.share is None else percent(rate.share, 1.0)
    limits = {"memory": "what the memory allows", "matmul": "what matrix products allow"}
    allowed: Row = ((f"{share} of {limits[rate.limit]}", "value"),) if rate.limit else EMPTY
    return [
        ((f"{rate.part:9} {percent(rate.time_ns, total_ns):>4} of the time", "text"),),
        ((f"{metric(rate.mem_bytes_per_s, 'B/s')}", "value"),),
        ((f"{metric(rate.flops_per_s, 'FLOP/s')}", "value"),),
        allowed,
    ]


def _mean_ns(steps: Steps, numbers: range) -> int | None:
    """How long those of the steps took that are kept, None without one."""
    found = [step.end_ns - step.t_ns for step in map(steps.find, numbers) if step is not None]
    return round(fmean(found)) if found else None


def _line(row: KernelRow, num_steps: int, total_ns: int, width: int) -> Row:
    numbers = (
        f"{row.time_ns / num_steps / 1e6:9.3f} {percent(row.time_ns, total_ns):>6} "
        f"{row.calls / num_steps:11.1f} {row.time_ns / max(1, row.calls) / 1e3:9.1f}  "
    )
    numbers += _part_cell(row.part, width)
    room = width - len(numbers)
    if room < _MIN_NAME + _BAR:
        return ((numbers, "value"), (fit(clean_line(row.name), max(room, 0)), "text"))
    name = fit(clean_line(row.name), room - _BAR - 1)
    chart = bar(row.time_ns, total_ns, _BAR, "chart")
    return ((numbers, "value"), (name, "text"), (" ", "text"), *chart)


def _part_cell(part: str, width: int) -> str:
    """Nothing where the kernel's name would be left too little room."""
    fits = width >= len(_NUMBERS) + _PART + _MIN_NAME
    return f"{fit(clean_line(part), _PART)}  " if fits else ""
