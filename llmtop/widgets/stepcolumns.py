"""One column per engine step, newest at the right: its height is its time, stacked by cause."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, islice
from statistics import median
from typing import Final, NamedTuple

from textual import events
from textual.message import Message

from llmtop.format import milliseconds, nice_ceiling
from llmtop.viewmodel import View
from llmtop.widgets.causes import MARKS
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span, merged
from profiler.events import Step
from profiler.explain.parts import Part

# From below to above.
_LAYERS: Final = (
    *("decode", "prefill", "graph", "clock", "processor", "unexplained"),
    *("host", "capture", "idle"),
)
_LEGEND: Final = ("decode", "prefill", "unexplained", "host", "idle")
# Columns move to the left by so many steps at a time: moving them with every step sends the whole
# chart anew in every frame.
_SHIFT: Final = 16
_MOST_TIMES: Final = 8.0


def chosen_step(view: View) -> Step | None:
    """The step that the viewer chose, the newest without a choice; None once it is forgotten."""
    steps, number = view.state.steps, view.model.step
    return steps.last if number is None else steps.find(number)


def missing(view: View) -> str:
    """Why there is no chosen step."""
    number = view.model.step
    return "no step yet" if number is None else f"step {number} is not among those that are kept"


class Window(NamedTuple):
    """The steps that are shown, oldest first, and the columns left free for the next ones."""

    steps: list[Step]
    room: int


def window(view: View, width: int) -> Window:
    """The newest steps, or those after the chosen one where it is older."""
    ring, chosen = view.state.steps.ring, view.model.step
    if not ring or width <= 0:
        return Window([], 0)
    room = -ring[-1].step % _SHIFT if width > _SHIFT else 0
    first = max(0, len(ring) - (width - room))
    if chosen is not None and chosen < ring[first].step:
        first, room = bisect_left(ring, chosen, key=lambda step: step.step), 0
    return Window(list(islice(ring, first, first + width - room)), room)


class Column(NamedTuple):
    """ns up to the top of each layer, so that the last one is the whole column."""

    tops_ns: tuple[int, ...]

    @classmethod
    def of(cls, parts: list[Part]) -> Column:
        sums = dict.fromkeys(_LAYERS, 0)
        for part in parts:
            sums[part.cause] += part.ns
        return cls(tuple(accumulate(sums.values())))

    def layer_at(self, height_ns: float) -> str:
        """The layer at that height; "" above the column."""
        at = bisect_left(self.tops_ns, height_ns)
        return _LAYERS[at] if at < len(_LAYERS) else ""


class StepColumns(Panel):
    """Keeps the columns that it shows: taking a step apart costs more than drawing it."""

    about = (
        "A column an engine step, the newest at the right: its height is its time, in layers by "
        "cause."
    )
    own_keys = (
        "left: previous step",
        "right: next step; after the last the newest is followed",
        "back: the newest step",
    )
    wheel = ("slide", 1)
    inside = "steps"

    class Picked(Message):
        """The viewer pressed on a step's column."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._known: dict[tuple[int, int], Column] = {}
        self._drawing = ColumnCells(0, 0.0)

    def title(self, view: View) -> Row:
        return (("Steps", "title"),)

    def note(self, view: View) -> str:
        columns = self._columns(view, window(view, self.inner[0]).steps)
        if not columns:
            return ""
        legend = " ".join(f"{MARKS[cause][0]} {cause}" for cause in _LEGEND)
        above = ", ↑ above" if _over(columns) else ""
        return f"0-{milliseconds(_top_ms(columns))} ms{above}, {legend}"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        steps, room = window(view, width)
        if not steps or height < 1:
            return [(("no step yet", "dim"),)]
        columns = self._columns(view, steps)
        left: Row = ((" " * (width - len(steps) - room), "text"),)
        self._drawing = self._drawing.fitting(height - 1, _top_ms(columns), columns)
        bars = self._drawing.rows(columns)
        return [(*left, *row) for row in [*bars, _marks(view, steps)]]

    def on_click(self, event: events.Click) -> None:
        if self._view is None:
            return
        width, _ = self.inner
        steps, room = window(self._view, width)
        at = event.x - self.body_offset()[0] - (width - len(steps) - room)
        if 0 <= at < len(steps):
            self.post_message(self.Picked(steps[at].step))

    def _columns(self, view: View, steps: list[Step]) -> list[Column]:
        keys = [(step.step, step.end_ns) for step in steps]
        known = {key: self._known[key] for key in keys if key in self._known}
        for key, step in zip(keys, steps, strict=True):
            if key not in known:
                known[key] = Column.of(view.explainer.step(step))
        self._known = known
        return [known[key] for key in keys]


def _top_ms(columns: list[Column]) -> float:
    """The top of the axis: one stalled step must not press all the others flat."""
    lengths_ms = [column.tops_ns[-1] / 1e6 for column in columns]
    return nice_ceiling(min(max(lengths_ms), _MOST_TIMES * median(lengths_ms)))


def _over(columns: list[Column]) -> bool:
    """Whether a column is higher than the axis."""
    return max(column.tops_ns[-1] for column in columns) > _top_ms(columns) * 1e6


class ColumnCells:
    """Columns as cells, `height` of them up to the axis' end. What a step's column looks like is
    kept: of a hundred of them a frame brings a few new ones."""

    def __init__(self, height: int, top_ms: float) -> None:
        self._height = height
        self._top_ms = top_ms
        self._known: dict[Column, tuple[Span, ...]] = {}

    def fitting(self, height: int, top_ms: float, columns: list[Column]) -> ColumnCells:
        """For that axis, without what is kept of other columns."""
        fitting = ColumnCells(height, top_ms)
        if (height, top_ms) == (self._height, self._top_ms):
            fitting._known = {c: self._known[c] for c in columns if c in self._known}
        return fitting

    def rows(self, columns: list[Column]) -> list[Row]:
        """The highest first; every column has at least one cell."""
        stacks = [self._known.get(c) or self._known.setdefault(c, self._stack(c)) for c in columns]
        return [merged(line) for line in zip(*stacks, strict=True)]

    def _stack(self, column: Column) -> tuple[Span, ...]:
        """From above to below; a cell shows what is at its middle."""
        return tuple(self._cell(column, line) for line in range(self._height - 1, -1, -1))

    def _cell(self, column: Column, line: int) -> Span:
        height_ns = (line + 0.5) / self._height * self._top_ms * 1e6
        if line == 0:
            height_ns = min(height_ns, column.tops_ns[-1] / 2)
        elif line == self._height - 1 and column.tops_ns[-1] > self._top_ms * 1e6:
            return ("↑", "warn")
        layer = column.layer_at(height_ns)
        return MARKS[layer] if layer else (" ", "text")


def _marks(view: View, steps: list[Step]) -> Row:
    """▲ under the chosen step, ▪ under those that the selected request was in."""
    chosen, selected = chosen_step(view), view.model.selected
    return merged(
        ("▲", "key")
        if step is chosen
        else ("▪", "title")
        if selected is not None and any(row.request == selected for row in step.rows)
        else (" ", "text")
        for step in steps
    )
