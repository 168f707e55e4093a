"""Why one token took as long as it did: the step that made it, and who else was in that step."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from llmtop.columns import token_cursor
from llmtop.format import grouped, milliseconds, short_name
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.requestfacts import fact
from llmtop.widgets.rows import Row, Span, joined, width_of
from profiler.events import Step, StepRow
from profiler.folds.request_view import RequestView

_NAME: Final = 10


class TokenStep(Panel):
    def title(self, view: View) -> Row:
        request = view.request
        if request is None or not request.token_steps:
            return (("Token", "title"),)
        at = token_cursor(request, view.model.token)
        return (
            (f"Token {at + 1} ", "title"),
            (f"of {len(request.token_steps)}, made by step {request.token_steps[at]}", "dim"),
        )

    def note(self, view: View) -> str:
        return "" if view.model.token is not None else "the slowest"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        if request is None or not request.token_steps:
            return [(("no token yet", "dim"),)]
        at = token_cursor(request, view.model.token)
        step = view.state.steps.find(request.token_steps[at])
        rows = [_gap(request, at, step)]
        if step is None:
            return [*rows, (("who else was in it is no longer kept", "dim"),)]
        rows += [_batch(step), *_company(step, request.request, view, width)]
        return rows


def _gap(request: RequestView, at: int, step: Step | None) -> Row:
    end_ns = request.token_times[at]
    before = [t for t in request.token_times[:at] if t < end_ns]
    if before:
        gap_ns, since = end_ns - before[-1], f"after token {len(before)}"
    else:
        gap_ns, since = end_ns - request.t_queued_ns, "after the request's arrival"
    line: Row = ((f"{milliseconds(gap_ns / 1e6)} ms ", "value"), (since, "dim"))
    if step is None:
        return line
    spent = min(gap_ns, step.end_ns - step.t_ns)
    parts = [line, fact("in this step", milliseconds(spent / 1e6), "ms")]
    if gap_ns > spent:
        parts.append(fact("before it", milliseconds((gap_ns - spent) / 1e6), "ms"))
    parts.append(fact("host", milliseconds(step.host_ns / 1e6), "ms"))
    if step.device_ns is not None:
        parts.append(fact("device", milliseconds(step.device_ns / 1e6), "ms"))
    return joined(parts, "   ")


def _batch(step: Step) -> Row:
    prefill = [row for row in step.rows if row.prefill_tokens]
    decode = len(step.rows) - len(prefill)
    tokens = sum(row.prefill_tokens for row in prefill)
    text = f"{len(prefill)} prefill of {grouped(tokens)} tokens" if prefill else "no prefill"
    waits = f", {step.num_waiting} waiting" if step.num_waiting else ""
    return (
        ("batch of ", "dim"),
        (f"{len(step.rows)}", "value"),
        (": ", "dim"),
        (f"{decode} decode", "decode"),
        (" and ", "dim"),
        (text, "prefill" if prefill else "dim"),
        (waits, "queued"),
    )


def _company(step: Step, request: int, view: View, width: int) -> list[Row]:
    """Those in the step besides `request`, the longest prefill first, as many as fit a line."""
    others = sorted(
        (row for row in step.rows if row.request != request),
        key=lambda row: (-row.prefill_tokens, row.request),
    )
    if not others:
        return [(("alone in it", "dim"),)]
    rows: list[Row] = []
    line: list[Span] = []
    for prefilling, group in groupby(others, key=lambda row: row.prefill_tokens > 0):
        word = "prefill " if prefilling else "decode  "
        line = [(word, "prefill" if prefilling else "decode")]
        for row in group:
            item = _member(row, view)
            if width_of(tuple(line)) + width_of(item) > width:
                rows.append(tuple(line))
                line = [("        ", "text")]
            line += item
        rows.append(tuple(line))
    return rows


def _member(row: StepRow, view: View) -> Row:
    known = view.state.requests.get(row.request)
    name = f"#{row.request}" if known is None else clean_line(short_name(known.name))[:_NAME]
    if row.prefill_tokens:
        return ((f"{name} ", "text"), (f"{grouped(row.prefill_tokens)} tok  ", "value"))
    return ((f"{name}  ", "text"),)
