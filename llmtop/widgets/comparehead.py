"""The head of a comparison: which two recordings, how they pair up, and what to beware of."""

from __future__ import annotations

from llmtop.compare import words
from llmtop.compare.choice import Choice
from llmtop.format import grouped
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, fit_row
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
        pairs: Row = ((f" {words.aligned(comparison)}", "dim"),)
        beware: Row = ((f" {note}", "dim" if note == words.CAVEAT else "warn"),)
        return [
            _side("A", comparison.a),
            _side("B", comparison.b),
            *((pairs, beware) if note == words.CAVEAT else (beware, pairs)),
        ]


def _side(name: str, side: Side) -> Row:
    requests = grouped(side.workload.requests)
    return (
        (f" {name} ", "key"),
        (words.file_name(side), "value"),
        (f"  {words.began(side)}, {words.lasted(side)}, {requests} requests, ", "dim"),
        (words.arrivals(side), "dim"),
    )
