"""One request in time: a bar per phase on a labelled axis, and a bar per token's latency."""

from __future__ import annotations

from llmtop.columns import age_ns
from llmtop.format import milliseconds, nice_ceiling, seconds
from llmtop.widgets.rows import Row, Span
from llmtop.widgets.timeline import GLYPHS, ROLES
from profiler.folds.request_view import RequestView

_WORDS = {
    "queued": "queue",
    "upstream": "upstream",
    "prefill": "prefill",
    "decode": "decode",
    "preempted": "preempted",
}


def phase_line(request: RequestView, t_ns: int) -> Row:
    """The phases in order with their durations."""
    out: list[Span] = []
    for span in request.spans:
        end_ns = t_ns if span.end_ns is None else span.end_ns
        glyph = "✖" if span.phase == "preempted" else GLYPHS[span.phase]
        out += [("  " if out else "", "text"), (f"{glyph} ", ROLES[span.phase])]
        out += [(f"{_WORDS[span.phase]} ", "dim"), (_duration(end_ns - span.t_ns), "value")]
        out.append((" so far" if span.end_ns is None else "", "dim"))
    return tuple(out)


def _duration(value_ns: int) -> str:
    return f"{milliseconds(value_ns / 1e6)} ms" if value_ns < 1e9 else seconds(value_ns)


def waterfall(request: RequestView, t_ns: int, width: int) -> list[Row]:
    """An axis from the arrival on, then one line per phase that occurred."""
    total_ns = max(1, age_ns(request, t_ns))
    label = 10
    room = max(10, width - label)
    rows = [((" " * label, "text"), *_axis(total_ns, room))]
    phases = [phase for phase in _WORDS if _has(request, phase)]
    for phase in phases:
        rows.append(((_WORDS[phase].ljust(label), "dim"), *_lane(request, phase, t_ns, room)))
    return rows


def _has(request: RequestView, phase: str) -> bool:
    return any(span.phase == phase for span in request.spans)


def _axis(total_ns: int, width: int) -> Row:
    step_ns = nice_ceiling(total_ns / max(1, width // 12))
    line = ""
    tick = 0
    while True:
        at = round(tick * step_ns * width / total_ns)
        text = f"{tick * step_ns / 1e6:g} ms" if step_ns < 1e9 else f"{tick * step_ns / 1e9:g} s"
        if at + len(text) + 1 > width:
            return ((line.ljust(width), "faint"),)
        line = line.ljust(at) + "╵" + text
        tick += 1


def _lane(request: RequestView, phase: str, t_ns: int, width: int) -> Row:
    total_ns = max(1, age_ns(request, t_ns))
    cells = [False] * width
    for span in request.spans:
        if span.phase != phase:
            continue
        end_ns = t_ns if span.end_ns is None else span.end_ns
        first = int((span.t_ns - request.t_queued_ns) * width / total_ns)
        last = int((end_ns - request.t_queued_ns) * width / total_ns)
        for x in range(min(first, width - 1), min(width, max(first + 1, last))):
            cells[x] = True
    glyph = "✖" if phase == "preempted" else GLYPHS[phase]
    return tuple((glyph, ROLES[phase]) if on else (" ", "text") for on in cells)
