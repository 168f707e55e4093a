"""A request's life as one line of cells: ░ queued, ▒ prefill, █ decode, ✖ preempted.

Of another server's request the time until the first token is one phase, upstream: ▒ too.
"""

from __future__ import annotations

from typing import Final

from llmtop.columns import age_ns
from llmtop.format import nice_ceiling, percent
from llmtop.widgets.rows import Row, Span, merged
from profiler.folds.request_view import RequestView

GLYPHS: Final = {
    "queued": "░",
    "upstream": "▒",
    "prefill": "▒",
    "decode": "█",
    "preempted": "░",
    "done": "█",
}
ROLES: Final = {
    "queued": "queued",
    "upstream": "prefill",
    "prefill": "prefill",
    "decode": "decode",
    "preempted": "preempt",
    "done": "done",
}
LEGEND: Final = "░ queue ▒ prefill █ decode ✖ preempted"


def cell_duration_ns(requests: list[RequestView], t_ns: int, width: int) -> float:
    """A round time per cell with which the oldest of `requests` fits `width` cells."""
    oldest = max((age_ns(r, t_ns) for r in requests), default=0)
    return nice_ceiling(max(1e6, oldest / max(1, width)))


def timeline(request: RequestView, t_ns: int, cell_ns: float, width: int) -> Row:
    """At most `width` cells from the request's arrival on, and a word if room is left."""
    spans: list[Span] = []
    at = 0
    for span in request.spans:
        end_ns = t_ns if span.end_ns is None else span.end_ns
        stop = min(width, max(at + 1, round((end_ns - request.t_queued_ns) / cell_ns)))
        cells = max(0, stop - at)
        spans.append((_cells(span.phase, cells), ROLES[span.phase]))
        at = max(at, stop)
    remark = _remark(request)
    if len(remark[0]) <= width - at:
        spans.append(remark)
    return merged(spans)


def _cells(phase: str, count: int) -> str:
    if phase == "preempted" and count:
        return "✖" + GLYPHS[phase] * (count - 1)
    return GLYPHS[phase] * count


def _remark(request: RequestView) -> Span:
    if request.phase == "prefill" and request.num_prompt_tokens is not None:
        return f" {percent(request.computed_tokens, request.num_prompt_tokens)}", "prefill"
    if request.phase == "queued":
        return " waits", "queued"
    if request.phase == "preempted":
        return " preempted", "preempt"
    if request.phase == "done":
        reason = request.finish_reason or ""
        return (f" ✕ {reason}", "bad") if request.was_aborted else (f" ■ {reason}", "dim")
    return "", "text"
