"""One-line strips of things to press: the tabs at the top and the keys at the bottom."""

from __future__ import annotations

from typing import Final, NamedTuple

from textual import events
from textual.message import Message

from llmtop.viewmodel import View
from llmtop.widgets.attainment import attained
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, Span, cells_of, fit_row, spread, width_of
from llmtop.widgets.servernames import cut, short_names


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


class Tab(NamedTuple):
    shown: str
    label: str
    action: str
    is_chosen: bool


class Tabs(PressStrip):
    def rows(self, view: View, width: int, height: int) -> list[Row]:
        spans: list[Span] = []
        self._zones = []
        at = 0
        gap = " " if width >= ROOMY_FROM else ""
        for tab in _server_tabs(view, width) or _page_tabs(view):
            text = f" {tab.shown} {tab.label}{gap}"
            self._zones.append((at, at + cells_of(text), tab.action))
            spans.append((text, "tab" if tab.is_chosen else "dim"))
            at += cells_of(text)
        return [spread(tuple(spans), _aside(view, width - at), width)]


def _page_tabs(view: View) -> list[Tab]:
    return [
        Tab(shown, label, f"page('{page}')", page == view.model.page)
        for shown, page, label in view.model.keymap.pages()
    ]


def _server_tabs(view: View, width: int) -> list[Tab]:
    """All of several servers, each of those that have a digit, and the log; none of one server."""
    replicas, chosen = view.state.fleet.replicas, view.model
    if not replicas:
        return []
    room = (width - len(" 0 Fleet  9 Log ")) // len(replicas) - len(" 1  ")
    names = {f"target({n})": cut(name, room) for n, name in short_names(replicas).items()}
    labels = {"target(0)": "Fleet", **names, "fleet_log": "Log"}
    open_now = "fleet_log" if chosen.page == "log" else f"target({chosen.target})"
    return [
        Tab(shown, labels[key.action], key.action, key.action == open_now)
        for shown, key in chosen.keymap.servers()
        if key.action in labels
    ]


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
        # Load and prompts of one's own go to one server.
        several = view.mode == "LIVE" and bool(view.state.fleet.replicas)
        for key in view.model.keymap.footer("fleet" if several else view.mode.lower()):
            item: Row = ((f" {key.shown}", "key"), (f" {key.label} ", "dim"))
            if at + width_of(item) > width:
                break
            self._zones.append((at, at + width_of(item), key.action))
            spans += item
            at += width_of(item)
        return [fit_row(tuple(spans), width)]
