"""The pairs of requests that became slower by most, one of them selected."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmtop.compare.choice import Choice
from llmtop.format import grouped, milliseconds, short_name
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, fit
from profiler.compare.regressions import Regression

_NAME = 12


class CompareWorst(Panel):
    about = "The pairs of requests that are slower in B by most."
    own_keys = (
        "down",
        "up",
        "open",
        "a-or-b",
        "latency",
        "chart: next latency: curves and requests",
        "swap",
        "refresh",
        "back: to the list of recordings",
    )
    wheel = ("scroll_worst", 1)

    class Picked(Message):
        """A row was clicked; `again` if it was the selected one already."""

        def __init__(self, again: bool) -> None:
            super().__init__()
            self.again = again

    def __init__(self, choice: Choice, *, id: str) -> None:
        super().__init__(id=id)
        self._choice = choice
        self._first = 0

    def title(self, view: View) -> Row:
        return (("Requests slower by most", "title"), (f", by {self._choice.ranked_by}", "dim"))

    def note(self, view: View) -> str:
        side = self._choice.side
        other = "A" if side == "B" else "B"
        key = view.model.keymap.shown
        if self._choice.here:
            refresh = f", {key('refresh')} refreshes" if view.mode == "LIVE" else ""
            return f"{key('swap')} swaps A and B{refresh}, {key('back')}: list"
        text = f"{key('open')} opens it in {side}, {key('a-or-b')}: {other}"
        return text if self._choice.worst else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        worst = self._choice.worst
        if not worst:
            pairs = self._choice.comparison.pairs.count
            return [(("no pair became slower" if pairs else "requests do not pair up", "dim"),)]
        head = (
            f"  {'in A':<{_NAME}} {'in B':<{_NAME}} {'prompt':>7} {'output':>7}"
            f" {'A ms':>9} {'B ms':>9} {'change':>9}"
        )
        visible = max(1, height - 1)
        at = self._choice.cursor
        self._first = max(at - visible + 1, min(self._first, at))
        rows = worst[self._first : self._first + visible]
        lines = [self._line(pair, self._first + i) for i, pair in enumerate(rows)]
        return [((head, "dim"),), *lines]

    def _line(self, pair: Regression, at: int) -> Row:
        chosen = at == self._choice.cursor
        role = "select" if chosen else "text"
        a, b = (fit(clean_line(short_name(n)), _NAME) for n in (pair.name_a, pair.name_b))
        counts = f"{grouped(pair.prompt_tokens):>7} {grouped(pair.output_tokens_b):>7}"
        times = f"{milliseconds(pair.a_ms):>9} {milliseconds(pair.b_ms):>9}"
        return (
            ("▶ " if chosen else "  ", role),
            (f"{a} {b} {counts} {times}", role),
            (f" {'+' + milliseconds(pair.change_ms):>9}", "select" if chosen else "bad"),
        )

    def on_click(self, event: events.Click) -> None:
        at = event.y - self.body_offset()[1] - 1 + self._first
        if event.y > self.body_offset()[1] and 0 <= at < len(self._choice.worst):
            again = at == self._choice.cursor
            self._choice.cursor = at
            self.post_message(self.Picked(again))
