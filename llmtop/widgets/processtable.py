"""What our processes take of the host."""

from __future__ import annotations

from typing import Final

from llmtop.format import size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, fit
from profiler.events import ProcessSample
from profiler.state import SessionState

_ROLE: Final = 10
_NUMBERS: Final = 29
_STALE_NS: Final = 5_000_000_000


class ProcessTable(Panel):
    """One line a process. The bars share a scale: the busiest process, at least one core."""

    about = (
        "What each process of ours takes of a core and of memory. One that is silent for 5 s is "
        "marked."
    )

    def title(self, view: View) -> Row:
        return (("Processes ", "title"), ("cpu 100% = one core", "dim"))

    def note(self, view: View) -> str:
        samples = view.state.processes.values()
        if not samples:
            return ""
        total = sum(sample.cpu_pct for sample in samples)
        return f"cpu {total:.0f}%, rss {size(sum(s.rss_bytes for s in samples))}"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        samples = list(view.state.processes.values())
        if not samples:
            return [(("no process has reported yet", "dim"),)]
        rows: list[Row] = [((f"{'role':<{_ROLE}}{'pid':>8}{'cpu':>7}{'rss':>11}", "dim"),)]
        most = max(100.0, *(sample.cpu_pct for sample in samples))
        rows += [_line(sample, most, view.state, width) for sample in samples]
        return rows


def _line(sample: ProcessSample, most: float, state: SessionState, width: int) -> Row:
    role = fit(clean_line(sample.role), _ROLE)
    numbers = f"{sample.pid:>8}{sample.cpu_pct:>6.0f}%{size(sample.rss_bytes):>11} "
    age_ns = state.t_ns - sample.t_ns
    if age_ns > _STALE_NS:
        silent = f"! silent for {age_ns / 1e9:.0f} s"
        return ((role, "text"), (numbers, "dim"), (silent, "warn"))
    room = min(24, width - _ROLE - _NUMBERS)
    drawn = bar(sample.cpu_pct, most, room, "chart") if room > 3 else ()
    return ((role, "text"), (numbers, "value"), *drawn)
