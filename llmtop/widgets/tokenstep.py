"""Why one token took as long as it did: its time in parts, and who else was in its step."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from llmtop.columns import token_cursor
from llmtop.format import grouped, milliseconds
from llmtop.viewmodel import View
from llmtop.widgets.causes import cause_bar, cause_rows, explained_rows, request_name
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span, width_of
from profiler.events import Step, StepRow
from profiler.explain.parts import Explanation, StepParts, merged
from profiler.explain.sentence import told_parts
from profiler.state import SessionState

# Below it every line is wanted for the words.
_BAR_FROM: Final = 4
_OWN: Final = frozenset(("own", "chunk", "recompute"))


class TokenStep(Panel):
    about = "The chosen token's time in parts that sum to it, and who else was in its step."
    own_keys = ("left: previous token", "right: next token", "open: the step that made the token")
    inside = "steps"

    def title(self, view: View) -> Row:
        request = view.request
        if request is None or not request.token_steps:
            return (("Token", "title"),)
        at = token_cursor(request, view.model.token)
        steps = request.token_steps
        if request.is_foreign:
            return ((f"Token {at + 1} ", "title"), (f"of {len(steps)}", "dim"))
        first = ", the time to it" if steps[at] == request.first_step else ""
        return (
            (f"Token {at + 1} ", "title"),
            (f"of {len(steps)}, made by step {steps[at]}{first}", "dim"),
        )

    def note(self, view: View) -> str:
        chosen = "" if view.model.token is not None else "the slowest; "
        return f"{chosen}{view.model.keymap.shown('open')}: its step"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request, state = view.request, view.state
        if request is None or not request.token_steps:
            return [(("no token yet", "dim"),)]
        at = token_cursor(request, view.model.token)
        explanation = view.explainer.token(request, at)
        if explanation is None:
            return [(("the token before it is no longer known", "dim"),)]
        rows = explained_rows(explanation, state, width)
        if height >= _BAR_FROM:
            rows.append(cause_bar(explanation.parts, width))
        rows += _step_rows(explanation, state, width)
        step = state.steps.find(request.token_steps[at])
        if step is None:
            return [*rows, (("who else was in its step is no longer kept", "dim"),)]
        return [*rows, _batch(step), *_company(step, request.request, view, width)]


def _step_rows(explanation: Explanation, state: SessionState, width: int) -> list[Row]:
    """A time of several steps: those that computed the request, each with its parts."""
    if len(explanation.steps) < 2:
        return []
    return [
        row
        for step in explanation.steps
        if any(part.cause in _OWN for part in step.parts)
        for row in _one_step(step, state, width)
    ]


def _one_step(step: StepParts, state: SessionState, width: int) -> list[Row]:
    parts = merged(step.parts)
    length_ms = sum(part.ns for part in parts) / 1e6
    head: Row = (
        (f"step {grouped(step.step)} ", "dim"),
        (milliseconds(length_ms), "value"),
        (" =", "dim"),
    )
    return cause_rows(head, told_parts(parts), state, width)


def _batch(step: Step) -> Row:
    prefill = [row for row in step.rows if row.prefill_tokens]
    decode = len(step.rows) - len(prefill)
    tokens = sum(row.prefill_tokens for row in prefill)
    text = f"{len(prefill)} prefill of {grouped(tokens)} tokens" if prefill else "no prefill"
    waits = f", {grouped(step.num_waiting)} waiting" if step.num_waiting else ""
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
    name = request_name(view.state, row.request)
    if row.prefill_tokens:
        return ((f"{name} ", "text"), (f"{grouped(row.prefill_tokens)} tok  ", "value"))
    return ((f"{name}  ", "text"),)
