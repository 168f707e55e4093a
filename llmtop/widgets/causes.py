"""What a time was spent on: each cause with its glyph, words and number, and all as a bar."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from llmtop.format import grouped, milliseconds, short_name
from llmtop.sanitize import clean_line
from llmtop.widgets.bar import stacked
from llmtop.widgets.rows import Row, flowed
from profiler.explain.parts import Explanation, Part
from profiler.explain.sentence import cause_words, told_parts
from profiler.state import SessionState

NAME_WIDTH: Final = 10
# Glyph and role of each cause; the glyph tells them apart where there is no colour.
MARKS: Final = {
    "own": ("█", "decode"),
    "chunk": ("▓", "prefill"),
    "recompute": ("▓", "preempt"),
    "prefill": ("▒", "prefill"),
    "decode": ("█", "decode"),
    "waits": ("░", "queued"),
    "preempted": ("✖", "preempt"),
    "graph": ("▞", "graph"),
    "clock": ("▄", "warn"),
    "processor": ("◇", "warn"),
    "host": ("▚", "host"),
    "capture": ("◆", "host"),
    "idle": ("·", "dim"),
    "unexplained": ("?", "warn"),
}


def request_name(state: SessionState, request: int) -> str:
    """Its name, short and clean; its number once it is forgotten."""
    known = state.requests.get(request)
    return f"#{request}" if known is None else clean_line(short_name(known.name))[:NAME_WIDTH]


def cause_bar(parts: list[Part], width: int) -> Row:
    """All parts side by side in `width` cells."""
    amounts = [(part.ns / 1e6, *MARKS[part.cause]) for part in parts]
    return stacked(amounts, sum(amount for amount, _, _ in amounts), width)


def cause_row(part: Part, state: SessionState) -> Row:
    """`▒ prefill of r-9219 ~31.0 (1 024 tok)`, in ms."""
    glyph, role = MARKS[part.cause]
    words = clean_line(cause_words(part, lambda request: request_name(state, request)))
    number = f"{'~' if part.estimated else ''}{milliseconds(part.ns / 1e6)}"
    tokens = f" ({grouped(part.tokens)} tok)" if part.tokens else ""
    return ((f"{glyph} ", role), (f"{words} ", "text"), (number, "value"), (tokens, "dim"))


def cause_rows(head: Row, parts: Iterable[Part], state: SessionState, width: int) -> list[Row]:
    """`head` and the parts as a sum, on as many lines as they take."""
    told = [cause_row(part, state) for part in parts]
    terms = [(*row, (" +", "dim")) for row in told[:-1]] + told[-1:]
    return flowed([head, *terms], width, " ")


def explained_line(explanation: Explanation, state: SessionState, width: int) -> Row:
    """As `explained_rows`, but on one line and the longest part first; … stands for the parts that
    found no room."""
    parts = sorted(told_parts(explanation.parts), key=lambda part: -part.ns)
    lines = cause_rows(_total(explanation), parts, state, max(1, width - 2))
    return (*lines[0], (" …", "dim")) if len(lines) > 1 else lines[0]


def explained_rows(explanation: Explanation, state: SessionState, width: int) -> list[Row]:
    """The whole time and what it was made of; parts that round to 0.0 ms are left out."""
    return cause_rows(_total(explanation), told_parts(explanation.parts), state, width)


def _total(explanation: Explanation) -> Row:
    return ((milliseconds(explanation.total_ns / 1e6), "value"), (" ms =", "dim"))
