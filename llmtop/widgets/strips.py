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
    """What is wrong, or missed, has its place beside them: where it has no room, the pages that are
    not open keep their keys alone."""

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        gap = " " if width >= ROOMY_FROM else ""
        tabs = _server_tabs(view, width) or _page_tabs(view)
        room = width - sum(cells_of(_written(tab, gap)) for tab in tabs)
        aside = next((row for row in _asides(view) if width_of(row) < room), ())
        urgent = _urgent(view)
        if urgent and not aside and not view.state.fleet.replicas:
            tabs = [tab if tab.is_chosen else tab._replace(label="") for tab in tabs]
            room = width - sum(cells_of(_written(tab, gap)) for tab in tabs)
            aside = _cut(urgent[-1], room - 1)
        return [spread(self._placed(tabs, gap), aside, width)]

    def _placed(self, tabs: list[Tab], gap: str) -> Row:
        spans: list[Span] = []
        self._zones = []
        at = 0
        for tab in tabs:
            text = _written(tab, gap)
            self._zones.append((at, at + cells_of(text), tab.action))
            spans.append((text, "tab" if tab.is_chosen else "dim"))
            at += cells_of(text)
        return tuple(spans)


def _written(tab: Tab, gap: str) -> str:
    return f" {tab.shown} {tab.label}{gap}" if tab.label else f" {tab.shown}{gap}"


def _cut(row: Row, width: int) -> Row:
    return row if width_of(row) <= width else fit_row(row, width)


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


def _asides(view: View) -> list[Row]:
    """What may stand beside the tabs, the longest first."""
    load: Row = (("load ", "dim"), (f"{view.model.load} ", "value")) if view.model.load else ()
    urgent = _urgent(view)
    if _trouble(view):
        return urgent
    both = [shown for row in urgent for shown in ((*load, *row), row)]
    return both or ([load] if load else [])


def _urgent(view: View) -> list[Row]:
    """What there must be room for, the longest first: why nothing comes, or the objectives."""
    if _trouble(view):
        return [((f"{_trouble(view)} ", "warn"),)]
    return [row for row in attained(view) if row]


def _trouble(view: View) -> str:
    connection = view.connection
    fine = connection.status in ("connected", "starting", "connecting")
    return "" if fine else connection.detail


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
