"""The settings in which two recordings differ."""

from __future__ import annotations

from llmtop.compare.choice import Choice
from llmtop.format import NONE
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.compare.config import Change


class CompareSettings(Panel):
    about = "The settings in which A and B differ."

    can_focus = False

    def __init__(self, choice: Choice, *, id: str) -> None:
        super().__init__(id=id)
        self._choice = choice

    @property
    def _changes(self) -> list[Change]:
        return self._choice.comparison.config

    def title(self, view: View) -> Row:
        return (("Settings that differ", "title"),)

    def note(self, view: View) -> str:
        return str(len(self._changes))

    def body(self, view: View, width: int, height: int) -> list[Row]:
        if not self._changes:
            return [(("none", "dim"),)]
        rows: list[Row] = [
            (
                (f"{clean_line(change.name)} ", "dim"),
                (_text(change.a), "value"),
                (" → ", "dim"),
                (_text(change.b), "value"),
            )
            for change in self._changes
        ]
        if len(rows) > height:
            left = len(rows) - height + 1
            rows = [*rows[: height - 1], ((f"and {left} more, see --markdown", "dim"),)]
        return rows


def _text(value: object) -> str:
    return NONE if value is None else clean_line(str(value))
