"""Our own processes: what each takes of a core and of memory."""

from __future__ import annotations

from llmtop.format import size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.events import ProcessSample


class Processes(Panel):
    def title(self, view: View) -> Row:
        return (("Processes", "title"),)

    def note(self, view: View) -> str:
        return "100 % is one core"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        samples = sorted(view.state.processes.values(), key=lambda s: s.pid)
        if not samples:
            return [(("none has reported yet", "dim"),)]
        return [_line(sample) for sample in samples[:height]]


def _line(sample: ProcessSample) -> Row:
    return (
        (clean_line(sample.role)[:10].ljust(10), "text"),
        (f"{sample.cpu_pct:5.0f}%", "value"),
        (" cpu  ", "dim"),
        (size(sample.rss_bytes).rjust(9), "value"),
        (" memory", "dim"),
        (f"  pid {sample.pid}", "dim"),
    )
