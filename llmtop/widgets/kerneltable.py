"""A window of kernels as rows: what the device spent the time of some steps on."""

from __future__ import annotations

from statistics import fmean
from typing import Final

from llmtop.format import grouped, ns_as_ms, percent, seconds
from llmtop.sanitize import clean_line
from llmtop.widgets.bar import bar
from llmtop.widgets.rows import EMPTY, Row, fit, flowed
from profiler.events import KernelRow, KernelWindow
from profiler.folds.steps import Steps

_HEAD: Final = f"{'ms/step':>9} {'share':>6} {'calls/step':>11} {'us each':>9}  "
_BAR: Final = 16
_MIN_NAME: Final = 24


def kernel_rows(window: KernelWindow, steps: Steps, width: int) -> list[Row]:
    """The window's head, then a line a kernel, the longest first."""
    total_ns, num_steps = sum(row.time_ns for row in window.kernels), max(1, window.num_steps)
    shows_bars = width >= len(_HEAD) + _MIN_NAME + _BAR
    lines = [_line(row, num_steps, total_ns, width, shows_bars) for row in window.kernels]
    return [*_head(window, steps, total_ns, width), EMPTY, ((_HEAD + "kernel", "dim"),), *lines]


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


def _mean_ns(steps: Steps, numbers: range) -> int | None:
    """How long those of the steps took that are kept, None without one."""
    found = [step.end_ns - step.t_ns for step in map(steps.find, numbers) if step is not None]
    return round(fmean(found)) if found else None


def _line(row: KernelRow, num_steps: int, total_ns: int, width: int, shows_bars: bool) -> Row:
    numbers = (
        f"{row.time_ns / num_steps / 1e6:9.3f} {percent(row.time_ns, total_ns):>6} "
        f"{row.calls / num_steps:11.1f} {row.time_ns / max(1, row.calls) / 1e3:9.1f}  "
    )
    room = width - len(numbers) - (_BAR + 1 if shows_bars else 0)
    name = (fit(clean_line(row.name), max(room, 0)), "text")
    tail: Row = ((" ", "text"), *bar(row.time_ns, total_ns, _BAR, "chart")) if shows_bars else ()
    return ((numbers, "value"), name, *tail)
