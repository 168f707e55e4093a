"""The head of a comparison: which two recordings, how they pair up, and what to beware of."""

from __future__ import annotations

from llmtop.compare import words
from llmtop.compare.choice import Choice
from llmtop.format import grouped
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, fit_row, joined_within
from profiler.compare.comparison import Side


class CompareBar(Painted):
    """The title of the comparison where that is a program of its own."""

    DEFAULT_CSS = "CompareBar { height: 1; }"

    def __init__(self, choice: Choice, *, id: str) -> None:
        super().__init__(id=id)
        self._choice = choice

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        bar: Row = ((" llmtop ", "barvalue"), (" COMPARE ", "replay"), (" ", "bar"))
        model = clean_line(self._choice.comparison.b.model)
        return [fit_row((*bar, (model, "bar")), width, "bar")]


class CompareHead(Painted):
    """Three lines or four: the last gives way."""

    DEFAULT_CSS = "CompareHead { height: 4; }"

    def __init__(self, choice: Choice, *, id: str) -> None:
        super().__init__(id=id)
        self._choice = choice

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        comparison = self._choice.comparison
        note = next(words.notes(comparison))
        pairs = _told(words.aligned(comparison), "dim", width)
        beware = _told(note, "dim" if note == words.CAVEAT else "warn", width)
        return [
            _side("A", comparison.a, width),
            _side("B", comparison.b, width),
            *((pairs, beware) if note == words.CAVEAT else (beware, pairs)),
        ]


def _side(name: str, side: Side, width: int) -> Row:
    head: Row = ((f" {name} ", "key"), (words.file_name(side), "value"))
    requests = f"{grouped(side.workload.requests)} requests"
    facts = [words.began(side), words.lasted(side), requests, words.arrivals(side)]
    return joined_within([head, *(((fact, "dim"),) for fact in facts)], width)


def _told(text: str, role: str, width: int) -> Row:
    """As much of it as there is room for, where it can be cut between words."""
    first, *more = text.split("; ")
    parts: list[Row] = [((part, role),) for part in (f" {first}", *more)]
    return joined_within(parts, width, "; ")
