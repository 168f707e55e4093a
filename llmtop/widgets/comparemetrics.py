"""Every metric of two recordings with the interval of its change and a verdict."""

from __future__ import annotations

from typing import Final

from llmtop.compare import words
from llmtop.compare.choice import Choice
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.compare.metric_row import MetricRow

_ROLES: Final = {"better": "good", "worse": "bad"}
_SIGNS: Final = {"better": "+ ", "worse": "! ", "no difference shown": "= ", "too few": "? "}
_INTERVAL: Final = f"{'95 % interval':<18}"
_HEAD: Final = f"{'metric':<15}{'A':>7}{'B':>7}{'change':>9}  {_INTERVAL}verdict"
# With less room than this the verdict would be cut for the interval.
_INTERVALS_FROM: Final = 72
# With less room than this the longest verdict would be cut.
_WHOLE_FROM: Final = 79


class CompareMetrics(Panel):
    about = "Each metric of A and B, the difference with its interval, and the verdict."
    own_keys = ("table", "down", "up", "swap", "refresh")
    wheel = ("scroll_metrics", 3)

    def __init__(self, choice: Choice, *, id: str) -> None:
        super().__init__(id=id)
        self._choice = choice

    @property
    def _rows_shown(self) -> list[MetricRow]:
        return words.shown_rows(self._choice.comparison)

    def title(self, view: View) -> Row:
        return (("Metrics", "title"),)

    def note(self, view: View) -> str:
        count, height = len(self._rows_shown), self.inner[1] - 1
        if count <= height:
            return f"{count} metrics"
        first = self._choice.first
        return f"{first + 1} to {min(count, first + height)} of {count}, Tab and j k scroll"

    def scroll(self, by: int) -> None:
        self._choice.scroll(by, len(self._rows_shown), max(1, self.inner[1] - 1))

    def body(self, view: View, width: int, height: int) -> list[Row]:
        first = self._choice.first
        rows = self._rows_shown[first : first + max(0, height - 1)]
        head = _HEAD if width >= _INTERVALS_FROM else _HEAD.replace(_INTERVAL, "")
        return [((head, "dim"),), *(_line(row, width) for row in rows)]


def _line(row: MetricRow, width: int) -> Row:
    a, b = words.amount(row.a, row.unit), words.amount(row.b, row.unit)
    role = _ROLES.get(row.verdict, "dim")
    word = words.judged(row)
    if width < _WHOLE_FROM:
        word = word.removesuffix(" shown")
    return (
        (f"{words.title(row):<15}", "text"),
        (f"{a:>7}{b:>7}", "value"),
        (f"{words.change(row):>9}  ", role),
        (f"{words.bounds(row):<17} " if width >= _INTERVALS_FROM else "", "dim"),
        (f"{_SIGNS[row.verdict]}{word}", role),
    )
