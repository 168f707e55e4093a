"""A bar per output token: how long after the one before it came."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmtop.columns import gaps_ms, token_cursor
from llmtop.format import milliseconds
from llmtop.viewmodel import View
from llmtop.widgets.chart import area, scale_of
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row


class TokenTimes(Panel):
    """With more tokens than columns a bar is the worst of its share, and the title says so."""

    about = (
        "The time before each output token. With more tokens than columns a bar is the worst of "
        "several."
    )
    own_keys = ("left: previous token", "right: next token", "open: the step that made the token")
    wheel = ("slide", 1)

    class Picked(Message):
        """A bar was clicked: token `token` of the request, from 0, is the first of its share."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    def title(self, view: View) -> Row:
        return (("Time between tokens", "title"),)

    def note(self, view: View) -> str:
        request = view.request
        gaps = [] if request is None else gaps_ms(request)
        if not gaps:
            return ""
        per_bar = _per_bar(len(gaps), self.inner[0])
        share = "one bar a token" if per_bar == 1 else f"one bar: the worst of {per_bar} tokens"
        return f"{share}, 0 to {milliseconds(scale_of(gaps))} ms"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        gaps = [] if request is None else gaps_ms(request)
        if request is None or not gaps or height < 2:
            return [(("needs two tokens", "dim"),)]
        per_bar = _per_bar(len(gaps), width)
        bars = [max(gaps[i : i + per_bar]) for i in range(0, len(gaps), per_bar)]
        cells = -(-len(bars) // 2)
        padded: list[float | None] = [*bars, *([None] * (2 * cells - len(bars)))]
        rows = area(padded, cells, height - 1, scale_of(gaps))
        first = len(request.token_times) - len(gaps)
        at = max(0, token_cursor(request, view.model.token) - first) // per_bar // 2
        return [*rows, ((" " * at, "text"), ("▲", "key"))]

    def on_click(self, event: events.Click) -> None:
        request = None if self._view is None else self._view.request
        gaps = [] if request is None else gaps_ms(request)
        cell = event.x - self.body_offset()[0]
        at = 2 * cell * _per_bar(len(gaps), self.inner[0])
        if request is not None and 0 <= cell and at < len(gaps):
            self.post_message(self.Picked(at + len(request.token_times) - len(gaps)))


def _per_bar(num_gaps: int, width: int) -> int:
    return max(1, -(-num_gaps // (2 * max(1, width))))
