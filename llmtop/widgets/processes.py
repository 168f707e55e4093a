"""Our own processes: what each takes of a core and of memory."""

from __future__ import annotations

from llmtop.format import NONE, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import Cost, View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.events import ProcessSample


class Processes(Panel):
    about = "What each process of ours takes of a core and of memory, and what drawing this costs."

    def title(self, view: View) -> Row:
        return (("Processes", "title"),)

    def note(self, view: View) -> str:
        return "100 % is one core"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        samples = sorted(view.state.processes.values(), key=lambda s: s.pid)
        return [*(_line(sample) for sample in samples[: height - 1]), _terminal(view.cost)]


def _line(sample: ProcessSample) -> Row:
    return (
        (clean_line(sample.role)[:10].ljust(10), "text"),
        (f"{sample.cpu_pct:5.0f}%", "value"),
        (" cpu ", "dim"),
        (size(sample.rss_bytes).rjust(9), "value"),
        (f"  pid {sample.pid}", "dim"),
    )


def _terminal(cost: Cost) -> Row:
    """This program, which is not part of the session."""
    cpu = NONE if cost.cpu_pct is None else f"{cost.cpu_pct:.0f}%"
    rate = NONE if cost.kib_per_s is None else f"{cost.kib_per_s:.0f} KiB/s"
    return (
        ("terminal".ljust(10), "text"),
        (cpu.rjust(6), "value"),
        (" cpu ", "dim"),
        (rate.rjust(9), "value"),
        ("  drawn", "dim"),
    )
