"""One request from its arrival on: a lane per phase, and how long each phase took."""

from __future__ import annotations

from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row
from llmtop.widgets.waterfall import phase_line, waterfall


class Life(Panel):
    def title(self, view: View) -> Row:
        return (("Waterfall", "title"),)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        if request is None:
            return []
        t_ns = view.state.t_ns
        lanes = waterfall(request, t_ns, width)
        rows = [phase_line(request, t_ns)]
        if height > len(rows) + len(lanes):
            rows.append(EMPTY)
        return rows + lanes
