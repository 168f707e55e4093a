"""The newest minutes of one quantity, a point a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llmtop.format import milliseconds, short
from llmtop.viewmodel import CHARTS, View
from llmtop.widgets.chart import Values, area, laid_under, line, marks, scale_of
from llmtop.widgets.panel import Panel, unseen
from llmtop.widgets.rows import Row

# How many times higher than the largest value something possible may be and still be drawn.
FAR: Final = 3.0


@dataclass(frozen=True, slots=True)
class Series:
    """A column of the seconds fold, divided by `scale`; `possible`, another one, bounds it."""

    title: str
    unit: str
    field: str
    scale: float = 1.0
    role: str = "chart"
    possible: str = ""

    def text(self, value: float) -> str:
        return milliseconds(value) if self.unit == "ms" else short(value)


SERIES: Final = {
    "generated": Series("Generated", "tok/s", "generated_tokens", possible="possible_per_s"),
    "itl_p95": Series("Between tokens, p95", "ms", "itl_p95_ns", 1e6, "chart2"),
    "ttft_p95": Series("To first token, p95", "ms", "ttft_p95_ns", 1e6, "prefill"),
    "prompt": Series("Prompt computed", "tok/s", "prefill_tokens", 1.0, "prefill"),
    "running": Series("Running requests", "", "running", 1.0, "chart2"),
}


def chart_after(name: str, by: int) -> str:
    return CHARTS[(CHARTS.index(name) + by) % len(CHARTS)]


class Chart(Panel):
    """Shows the chosen chart, or the one `ahead` places after it, so that two never agree."""

    about = (
        "One number a second over the last minutes, the newest at the right. The axis begins at "
        "0 and ends at the number that the title names. Dots above generated tokens are what "
        "the device would allow."
    )
    own_keys = ("chart",)

    def __init__(self, *, id: str, ahead: int = 0, top: str = "├┤", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._ahead = ahead
        self._kept: tuple[tuple[object, ...], list[Row]] = ((), [])

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        """Drawn once a second: in between nothing of it changes."""
        newest = view.state.seconds.rows[-1] if view.state.seconds.rows else None
        chosen = (view.model.chart, self.compact, self.top, self.bottom, self.joints)
        shown = (newest, view.state.upstream, width, height, self.has_focus, *chosen)
        if self._kept[0] != shown:
            self._kept = (shown, super().rows(view, width, height))
        return self._kept[1]

    def _series(self, view: View) -> Series:
        return SERIES[chart_after(view.model.chart, self._ahead)]

    def _values(self, view: View, width: int) -> list[float | None]:
        series = self._series(view)
        if self._is_unseen(view):
            return []
        values = view.state.seconds.series(series.field)[-2 * width :]
        return [None if v is None else v / series.scale for v in values]

    def _is_unseen(self, view: View) -> bool:
        return bool(view.state.upstream) and self._series(view).field == "prefill_tokens"

    def _possible(self, view: View, width: int) -> list[float | None]:
        field = self._series(view).possible
        return view.state.seconds.series(field)[-2 * width :] if field else []

    def title(self, view: View) -> Row:
        series = self._series(view)
        values = [v for v in self._values(view, self.inner[0])[-1:] if v is not None]
        now = f" {series.text(values[0])}" if values else ""
        title: Row = ((series.title, "title"), (now, "value"), (f" {series.unit}".rstrip(), "dim"))
        possible = (self._possible(view, self.inner[0]) or [None])[-1]
        if possible is None:
            return title
        return (*title, (f" of {series.text(possible)} possible", "dim"))

    def note(self, view: View) -> str:
        width = self.inner[0]
        values = self._values(view, width)
        if not any(values):
            return ""
        top = self._series(view).text(_top(values, self._possible(view, width)))
        return f"by second, 0 to {top}, last {_span(len(values))}"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        values = self._values(view, width)
        if self._is_unseen(view):
            return [((unseen("prompt work"), "dim"),)]
        if not any(values):
            return [(("nothing in the last minutes", "dim"),)]
        series = self._series(view)
        possible = self._possible(view, width)
        top = _top(values, possible)
        # A rate is an amount and fills its area; a latency is a position.
        draw = line if series.unit == "ms" else area
        rows = draw(values, width, height, top, series.role)
        if not any(possible):
            return rows
        return laid_under(rows, marks(possible, width, height, top, "dim"))


def _top(values: Values, possible: Values) -> float:
    """The axis' end. What is possible has its place on it while the values can still be read."""
    own = scale_of(values)
    near = [v for v in possible if v is not None and v <= FAR * own]
    return max(own, scale_of(near))


def _span(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min {seconds % 60} s"
