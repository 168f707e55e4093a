"""One row a server, of several that are watched together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from textual import events

from llmtop.format import percent, seconds, short
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span, fit
from llmtop.widgets.servernames import short_names
from llmtop.widgets.spreadcells import quantile_text
from llmtop.widgets.strips import PressStrip
from profiler.folds.fleet import Replica
from profiler.folds.foreign import SPREAD_S, Foreign
from profiler.foreign.fleet_snapshot import counter_of

# What a cell says where no number is: the server's page does not have it, or has had no request.
NOT_EXPOSED: Final = "n/a"
QUIET: Final = "idle"
_NOT_YET: Final = "…"
_WIDE_FROM: Final = 110
_LEAD: Final = 3
_STATE: Final = 10
_ROLES: Final = {"up": "good", "STALE": "warn", "down": "bad", "asking": "dim"}


class Column(NamedTuple):
    title: str
    width: int
    text: Callable[[Foreign], str]


def _gauge(key: str, form: Callable[[float], str]) -> Callable[[Foreign], str]:
    def text(foreign: Foreign) -> str:
        value = foreign.gauge(key)
        return NOT_EXPOSED if value is None else form(value)

    return text


def _rate(key: str) -> Callable[[Foreign], str]:
    def text(foreign: Foreign) -> str:
        counter = counter_of(key, foreign)
        if foreign.last is None or counter not in foreign.last.counters:
            return NOT_EXPOSED
        value = foreign.rate(counter)
        return _NOT_YET if value is None else short(value)

    return text


def _quantile(key: str, share: float, width: int) -> Callable[[Foreign], str]:
    def text(foreign: Foreign) -> str:
        if foreign.last is None or key not in foreign.last.histograms:
            return NOT_EXPOSED
        spread = foreign.spread(key)
        return QUIET if spread is None else quantile_text(spread.quantile(share), width)

    return text


_LOAD: Final = (
    Column("run", 5, _gauge("running", short)),
    Column("wait", 5, _gauge("waiting", short)),
    Column("in t/s", 6, _rate("prompt_tokens")),
    Column("out t/s", 7, _rate("generation_tokens")),
)
_KV: Final = Column("KV", 4, _gauge("kv_usage", lambda usage: percent(usage, 1.0)))
_NARROW: Final = (
    *_LOAD,
    Column("ttft95", 7, _quantile("ttft", 0.95, 7)),
    Column("itl95", 7, _quantile("itl", 0.95, 7)),
    _KV,
)
_WIDE: Final = (
    *_LOAD,
    Column("ttft p50", 9, _quantile("ttft", 0.5, 9)),
    Column("p95", 8, _quantile("ttft", 0.95, 8)),
    Column("itl p50", 8, _quantile("itl", 0.5, 8)),
    Column("p95", 8, _quantile("itl", 0.95, 8)),
    _KV,
)


class FleetTable(Panel):
    about = (
        "One row a server, by the number that opens it. Tokens per second over 5 s; quantiles in "
        f"ms over {SPREAD_S} s, ~ an estimate between two edges of its histogram. {NOT_EXPOSED}: "
        f"its page does not have it. {QUIET}: no request within {SPREAD_S} s. STALE and down: how "
        "long; what a stale row says was so then."
    )
    own_keys = ("down", "up", "open: the server's own page")

    def __init__(self, *, id: str, top: str = "┌┐") -> None:
        super().__init__(id=id, top=top)
        self._shown: list[int] = []
        self._first = 0

    def title(self, view: View) -> Row:
        fleet = view.state.fleet
        return (
            ("Servers ", "title"),
            (f"{len(fleet.live)} of {len(fleet.replicas)} up", "value"),
        )

    def note(self, view: View) -> str:
        return f"{NOT_EXPOSED}: not exposed   {QUIET}: no request within {SPREAD_S} s"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        if height < 2:
            return []
        replicas = self._window(view, height - 1)
        self._shown = [replica.told.target for replica in replicas]
        columns = _WIDE if width >= _WIDE_FROM else _NARROW
        room = width - _LEAD - _STATE - sum(column.width + 1 for column in columns)
        server = "server".ljust(room)
        names = "".join(f" {column.title.rjust(column.width)}" for column in columns)
        head: Row = ((f"{' ' * _LEAD}{server}{'state'.ljust(_STATE)}{names}", "dim"),)
        return [head, *(self._row(view, replica, columns, room) for replica in replicas)]

    def _window(self, view: View, height: int) -> list[Replica]:
        replicas = list(view.state.fleet.replicas.values())
        numbers = [replica.told.target for replica in replicas]
        chosen = view.model.replica
        at = numbers.index(chosen) if chosen in numbers else 0
        self._first = max(at - height + 1, min(self._first, at))
        self._first = max(0, min(self._first, len(replicas) - height))
        return replicas[self._first : self._first + height]

    def _row(self, view: View, replica: Replica, columns: tuple[Column, ...], room: int) -> Row:
        told, foreign = replica.told, replica.foreign
        selected = told.target == view.model.replica
        base = "select" if selected else "text" if replica.is_live else "dim"
        word, since_ns = state_of(replica, view.state.t_ns)
        lead = f"{'▶' if selected else ' '}{told.target} "
        state = word if word == "up" else f"{word} {seconds(since_ns).replace('.0s', 's')}"
        spans: list[Span] = [
            (lead[:_LEAD], base),
            (fit(self._server(view, replica, room - 1), room - 1) + " ", base),
            (fit(state, _STATE), base if selected else _ROLES[word]),
        ]
        if told.status == "down" or foreign.last is None:
            why = clean_line(told.detail) or "no answer yet"
            return (*spans, (f" {why}", "select" if selected else "dim"))
        texts = [f" {column.text(foreign).rjust(column.width)}" for column in columns]
        return (*spans, *((text, _cell_role(text, base)) for text in texts))

    @staticmethod
    def _server(view: View, replica: Replica, width: int) -> str:
        """Its name, with the kind, the version and the model where there is room for them."""
        told = replica.told
        name = clean_line(told.name)
        kind = " ".join(filter(None, (told.engine, told.version)))
        for parts in ((name, kind, clean_line(replica.model)), (name, kind), (name, told.engine)):
            text = "  ".join(filter(None, parts))
            if len(text) <= width:
                return text
        short = short_names(view.state.fleet.replicas)[told.target]
        with_kind = f"{short} {told.engine}"
        return next((text for text in (with_kind, name) if len(text) <= width), short)

    def target_at(self, y: int) -> int | None:
        """The number of the server drawn on line `y` of the widget."""
        at = y - self.body_offset()[1] - 1
        return self._shown[at] if 0 <= at < len(self._shown) else None

    def on_click(self, event: events.Click) -> None:
        target = self.target_at(event.y)
        if target is not None:
            self.post_message(PressStrip.Pressed(f"target({target})"))


def state_of(replica: Replica, t_ns: int) -> tuple[str, int]:
    """A word for how it stands, and for how long."""
    last = replica.foreign.last
    if replica.told.status == "up" and replica.foreign.is_stale and last is not None:
        return "STALE", t_ns - last.t_ns
    word = "asking" if replica.told.status == "asked" else replica.told.status
    return word, t_ns - replica.since_ns


def _cell_role(text: str, base: str) -> str:
    absent = text.strip() in (NOT_EXPOSED, QUIET, _NOT_YET)
    return "faint" if absent and base != "select" else base
