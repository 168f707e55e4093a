"""The request table: one line a request, drawn from the fold, without a widget per row."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmtop.columns import FIELDS, Field, cell_text, value_text
from llmtop.format import grouped, seconds
from llmtop.viewmodel import View
from llmtop.widgets.keptgaps import KeptGaps
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span, fit, joined_within
from llmtop.widgets.timeline import LEGEND, ROLES, cell_duration_ns, timeline
from profiler.folds.request_view import RequestView

_NARROW = ("id", "phase", "age", "in", "out", "tps", "ttft")
_WIDE = ("id", "phase", "age", "in", "hit", "out", "tps", "ttft", "itl", "pages")
_LEGEND_FROM = 110


class RequestTable(Panel):
    """Live requests first, then the newest that ended."""

    about = (
        "One row a request: those that live, then the newest that ended. The bar is its life so "
        "far: ░ queued, ▒ prefill, █ decode, ✖ preempted."
    )
    own_keys = ("down", "up", "open", "sort", "reverse", "filter", "copy", "export")
    wheel = ("move", 1)

    class Picked(Message):
        """A row was clicked; `again` if it was the selected one already."""

        def __init__(self, request: int, again: bool) -> None:
            super().__init__()
            self.request = request
            self.again = again

    class SortPicked(Message):
        """A column's head was clicked."""

        def __init__(self, field: str) -> None:
            super().__init__()
            self.field = field

    def __init__(self, *, id: str, top: str = "├┤", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._shown: list[int] = []
        self._first = 0
        self._gaps = KeptGaps()

    def title(self, view: View) -> Row:
        requests, model = view.state.requests, view.model
        arrow = "↓" if model.descending else "↑"
        title: list[Span] = [
            ("Requests ", "title"),
            (f"{grouped(len(requests.live))} live", "value"),
            (f", sort {FIELDS[model.sort].title} {arrow}", "dim"),
        ]
        if model.filter_text:
            title += [(", filter ", "dim"), (model.filter_text, "key")]
        return tuple(title)

    def note(self, view: View) -> str:
        done = view.state.requests
        counts = f"{grouped(done.num_finished)} done, {grouped(done.num_aborted)} aborted"
        # Where lines from above meet the title line, they are to be seen.
        wide = self.size.width >= _LEGEND_FROM and not self.joints
        return f"{LEGEND}   {counts}" if wide else counts

    def body(self, view: View, width: int, height: int) -> list[Row]:
        requests = view.model.table(view.state)
        if height < 2:
            return []
        visible = self._window(requests, view.model.selected, height - 1)
        self._shown = [r.request for r in visible]
        columns = self._columns(width)
        room = width - 1 - sum(c.width + 1 for c in columns)
        t_ns = view.state.t_ns
        cell_ns = cell_duration_ns([r for r in visible if r.phase != "done"] or visible, t_ns, room)
        rows = [self._head(columns, cell_ns, view, room)]
        rows += [self._row(r, columns, room, cell_ns, view) for r in visible]
        return rows if visible else [rows[0], self._nothing(view, width)]

    def request_at(self, y: int) -> int | None:
        """The request drawn on line `y` of the widget."""
        at = y - self.body_offset()[1] - 1
        return self._shown[at] if 0 <= at < len(self._shown) else None

    def _window(
        self, requests: list[RequestView], selected: int | None, height: int
    ) -> list[RequestView]:
        at = next((i for i, r in enumerate(requests) if r.request == selected), None)
        if at is None:
            self._first = 0
        else:
            self._first = max(at - height + 1, min(self._first, at))
        self._first = max(0, min(self._first, len(requests) - height))
        return requests[self._first : self._first + height]

    @staticmethod
    def _columns(width: int) -> list[Field]:
        names = _WIDE if width >= 96 else _NARROW
        return [FIELDS[name] for name in names]

    def _head(self, columns: list[Field], cell_ns: float, view: View, room: int) -> Row:
        spans: list[Span] = [(" ", "text")]
        for column in columns:
            chosen = column.name == view.model.sort
            text = column.title.ljust if column.is_word else column.title.rjust
            spans.append((text(column.width) + " ", "key" if chosen else "dim"))
        scale = f"1 cell={seconds_short(cell_ns)}"
        return (*spans, (scale, "dim")) if len(scale) <= room else tuple(spans)

    def _row(
        self, request: RequestView, columns: list[Field], room: int, cell_ns: float, view: View
    ) -> Row:
        t_ns = view.state.t_ns
        selected = request.request == view.model.selected
        over = request.phase == "done"
        base = "select" if selected else "dim" if over else "text"
        cells = [self._cell(c, request, t_ns) for c in columns]
        lead = "▶" if selected else " "
        ended = "bad" if request.was_aborted else ROLES[request.phase]
        phase = base if selected else ended
        head, word, rest = cells[0], cells[1], "".join(cells[2:])
        line = timeline(request, t_ns, cell_ns, room)
        return ((lead + head, base), (word, phase), (rest, base), *line)

    def _cell(self, column: Field, request: RequestView, t_ns: int) -> str:
        if column.name == "itl":
            text = value_text(column, request, self._gaps.p95_ms(request))
        else:
            text = cell_text(column, request, t_ns)
        if column.is_word:
            return fit(text, column.width) + " "
        return text.rjust(column.width)[: column.width] + " "

    @staticmethod
    def _nothing(view: View, width: int) -> Row:
        key = view.model.keymap.shown
        if view.model.filter_text:
            return ((f" nothing matches the filter; {key('back')} clears it", "dim"),)
        parts = ["no request yet"]
        if view.mode != "REPLAY" and not view.model.keymap.readonly:
            parts += [f"{key('load')} starts a built-in load", f"{key('prompt')} asks one question"]
        rows: list[Row] = [((part, "dim"),) for part in parts]
        return ((" ", "dim"), *joined_within(rows, width - 1, ", "))

    def on_click(self, event: events.Click) -> None:
        picked = self.request_at(event.y)
        if picked is not None:
            selected = self._view.model.selected if self._view else None
            self.post_message(self.Picked(picked, picked == selected))
        elif event.y == self.body_offset()[1]:
            self._pick_column(event.x - self.body_offset()[0] - 1)

    def _pick_column(self, x: int) -> None:
        for column in self._columns(self.inner[0]):
            if x < column.width + 1:
                self.post_message(self.SortPicked(column.name))
                return
            x -= column.width + 1


def seconds_short(duration_ns: float) -> str:
    """A cell's duration: 2ms, 0.5s, 10s."""
    if duration_ns < 1e8:
        return f"{duration_ns / 1e6:.0f}ms"
    value = duration_ns / 1e9
    return f"{value:.1f}s" if value < 1 else seconds(int(duration_ns)).replace(".0s", "s")
