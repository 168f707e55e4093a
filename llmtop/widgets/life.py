"""One request from its arrival on: a lane per phase, and how long each phase took."""

from __future__ import annotations

from llmtop.viewmodel import View
from llmtop.widgets.causes import explained_line
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row
from llmtop.widgets.waterfall import phase_line, waterfall
from profiler.folds.request_view import RequestView


class Life(Panel):
    about = "The request from its arrival on, a lane a phase, and what its first token waited for."

    def title(self, view: View) -> Row:
        return (("Waterfall", "title"),)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        if request is None:
            return []
        t_ns = view.state.t_ns
        lanes = waterfall(request, t_ns, width)
        rows = [phase_line(request, t_ns), *_first_token(view, request, width)]
        room = height - len(rows) - len(lanes)
        if room < 0:
            rows = rows[:1]
        return rows + [EMPTY] * (room > 0) + lanes


def _first_token(view: View, request: RequestView, width: int) -> list[Row]:
    """What the time to the first token was spent on, on one line."""
    explanation = view.explainer.first_token(request)
    if explanation is None:
        return []
    return [(("ttft ", "dim"), *explained_line(explanation, view.state, width - 5))]
