"""The output tokens per second of another kind of server, a point a reading."""

from __future__ import annotations

from llmtop.format import short
from llmtop.viewmodel import View
from llmtop.widgets.chart import area, scale_of
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row


class ForeignChart(Panel):
    about = (
        "Output tokens per second between two readings of the metrics page, the newest at the "
        "right. The axis begins at 0 and ends at the number that the title names. A gap is a "
        "reading that is missing, or a server that began anew."
    )

    def title(self, view: View) -> Row:
        values = self._values(view)
        newest = values[-1] if values else None
        unit = f" tok/s, axis to {short(scale_of(values))}"
        return (("Generated ", "title"), (short(newest), "value"), (unit, "dim"))

    def body(self, view: View, width: int, height: int) -> list[Row]:
        values = self._values(view)
        return area(values, width, height, scale_of(values))

    def _values(self, view: View) -> list[float | None]:
        foreign = view.state.foreign
        return [rate for _, rate in foreign.rates(foreign.generated)]
