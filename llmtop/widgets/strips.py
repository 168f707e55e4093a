"""One-line strips of things to press: the tabs at the top and the keys at the bottom."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.message import Message

from llmtop.viewmodel import View
from llmtop.widgets.attainment import attained
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, Span, fit_row, spread, width_of


class PressStrip(Painted):
    """Remembers which columns stand for which action."""

    class Pressed(Message):
        """`action` is spelled as in the key registry."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    DEFAULT_CSS = "PressStrip { height: 1; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._zones: list[tuple[int, int, str]] = []

    def on_click(self, event: events.Click) -> None:
        for first, last, action in self._zones:
            if first <= event.x < last:
                self.post_message(self.Pressed(action))


# Below, tabs stand closer: all of them fit 60 cells, and at 80 the attainment stands beside them.
ROOMY_FROM: Final = 90


class Tabs(PressStrip):
    def rows(self, view: View, width: int, height: int) -> list[Row]:
        spans: list[Span] = []
        self._zones = []
        at = 0
        gap = " " if width >= ROOMY_FROM else ""
        for digit, page, label in view.model.keymap.pages():
            text = f" {digit} {label}{gap}"
            role = "tab" if page == view.model.page else "dim"
            self._zones.append((at, at + len(text), f"page('{page}')"))
            spans.append((text, role))
            at += len(text)
        return [spread(tuple(spans), _aside(view, width - at), width)]


def _aside(view: View, room: int) -> Row:
    if (
        view.connection.status not in ("connected", "starting", "connecting")
        and view.connection.detail
    ):
        return ((f"{view.connection.detail} ", "warn"),)
    load: Row = (("load ", "dim"), (f"{view.model.load} ", "value")) if view.model.load else ()
    known = attained(view)
    rights = [(*load, *known.whole), known.whole, (*load, *known.short), known.short, load]
    return next((right for right in rights if right and width_of(right) < room), ())


class Footer(PressStrip):
    """The keys that matter most, as many as fit."""

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        spans: list[Span] = []
        self._zones = []
        at = 0
        for key in view.model.keymap.footer(view.mode.lower()):
            item: Row = ((f" {key.shown}", "key"), (f" {key.label} ", "dim"))
            if at + width_of(item) > width:
                break
            self._zones.append((at, at + width_of(item), key.action))
            spans += item
            at += width_of(item)
        return [fit_row(tuple(spans), width)]
