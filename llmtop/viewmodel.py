"""What the viewer chose, and the picture one frame is painted from."""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal

from llmtop.columns import FIELDS, SORTS, sort_value
from llmtop.filter import FilterError, Predicate, parse_filter, words_in
from llmtop.keys import Keymap
from llmtop.privacy import Privacy
from profiler.conditions import Condition
from profiler.events import Finding
from profiler.explain.explainer import Explainer
from profiler.folds.fleet import Replica
from profiler.folds.request_view import RequestView
from profiler.session.markers import Marker
from profiler.state import SessionState
from profiler.walltime import wall_ns_of

# "stale": connected, but what is shown is of a while ago.
Status = Literal["starting", "connecting", "connected", "stale", "reconnecting", "ended", "failed"]
CHARTS = ("generated", "itl_p95", "ttft_p95", "prompt", "running")
COLOURINGS = ("owner", "state", "age", "references", "form")
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(slots=True)
class ViewModel:
    """The viewer's choices; keys change them, widgets read them."""

    keymap: Keymap = field(default_factory=Keymap)
    ascii: bool = False
    page: str = "overview"
    sort: str = "age"
    descending: bool = True
    filter_text: str = ""
    selected: int | None = None
    detail: bool = False
    opened_from: str = "requests"
    token: int | None = None
    step: int | None = None
    step_of_request: bool = False
    chart: str = CHARTS[0]
    pages_per_cell: int = 0
    cursor_page: int = 0
    colouring: str = COLOURINGS[0]
    log_level: str = "info"
    log_filter: str = ""
    log_until_ns: int | None = None
    load: str = ""
    replica: int = 1
    target: int = 0
    privacy: Privacy = field(default_factory=Privacy)
    predicate: Predicate | None = field(default=None, repr=False)

    def set_filter(self, text: str) -> str:
        """ "" or why `text` is no filter; then the old one holds."""
        try:
            self.predicate = parse_filter(text) if text.strip() else None
        except FilterError as error:
            return f"{error.message} (column {error.position + 1})"
        self.filter_text = text.strip()
        return ""

    def toggle_privacy(self) -> None:
        """Mask names and places, or no longer. Filters that may hold such a name are cleared."""
        self.privacy.on = not self.privacy.on
        if self.privacy.on:
            if "id" in words_in(self.filter_text):
                self.set_filter("")
            self.set_log_filter("")

    def next_sort(self, by: int) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + by) % len(SORTS)]

    def next_chart(self, by: int) -> None:
        self.chart = CHARTS[(CHARTS.index(self.chart) + by) % len(CHARTS)]

    def next_colouring(self, packs: bool) -> None:
        """Pages have forms only where they are packed."""
        following = COLOURINGS[(COLOURINGS.index(self.colouring) + 1) % len(COLOURINGS)]
        self.colouring = following if packs or following != "form" else COLOURINGS[0]

    def deselect(self) -> bool:
        """Whether a request was selected."""
        was_selected = self.selected is not None
        self.selected = self.token = None
        return was_selected

    def next_level(self) -> None:
        at = LOG_LEVELS.index(self.log_level)
        self.log_level = LOG_LEVELS[(at + 1) % len(LOG_LEVELS)]
        self.log_until_ns = None

    def set_log_filter(self, text: str) -> str:
        """ "" or why `text` is no regular expression; then the old one holds."""
        wanted = text.strip()
        try:
            re.compile(wanted)
        except re.error as error:
            return f"not a regular expression: {error}"
        self.log_filter, self.log_until_ns = wanted, None
        return ""

    def table(self, state: SessionState) -> list[RequestView]:
        """Live requests, then those that ended, filtered; each part in the chosen order.

        By age, the newest of those that ended stand first: it is they who were just live.
        """
        live = self._ordered(list(state.requests.live.values()), state.t_ns)
        ended = list(state.requests.done)
        if self.sort != "age":
            return live + self._ordered(ended, state.t_ns)
        if self.descending:
            ended.reverse()
        test = self.predicate
        return live + [r for r in ended if test is None or test(r, state.t_ns)]

    def _ordered(self, requests: list[RequestView], t_ns: int) -> list[RequestView]:
        if self.predicate is not None:
            requests = [r for r in requests if self.predicate(r, t_ns)]
        if self.sort == "age" and all(r.t_done_ns is None for r in requests):
            # In two turns, of which neither calls a function of ours for each of them.
            requests.sort(key=attrgetter("request"), reverse=self.descending)
            requests.sort(key=attrgetter("t_queued_ns"), reverse=not self.descending)
            return requests
        chosen = FIELDS[self.sort]
        keyed = [(sort_value(chosen, r, t_ns), r.request, r) for r in requests]
        keyed.sort(key=lambda item: item[:2], reverse=self.descending)
        return [request for _, _, request in keyed]

    def move_replica(self, state: SessionState, by: int) -> None:
        """Select the server `by` rows further down, of several."""
        numbers = list(state.fleet.replicas)
        if numbers:
            at = numbers.index(self.replica) if self.replica in numbers else 0
            self.replica = numbers[max(0, min(len(numbers) - 1, at + by))]

    def open_target(self, state: SessionState, target: int) -> None:
        """Show the page of that server, of several; 0 shows all of them."""
        if target and target not in state.fleet.replicas:
            return
        self.page, self.target = "overview", target
        self.replica = target or self.replica

    def open_request(self) -> None:
        """Show the selected request's own page, and remember where from."""
        if self.selected is not None:
            self.opened_from, self.page, self.detail = self.page, "requests", True
            self.token = None

    def open_step(self, step: int) -> None:
        """Show the engine step that made a token of the request that is open."""
        self.page, self.detail = "steps", False
        self.step, self.step_of_request = step, True

    def close_step(self) -> bool:
        """Whether a step was chosen; the newest one is shown again, or the request it was opened
        from."""
        was_chosen = self.step is not None
        if self.step_of_request:
            self.page, self.detail = "requests", True
        self.step, self.step_of_request = None, False
        return was_chosen

    def close_request(self) -> bool:
        """Whether a request was open; where it was opened from is shown again."""
        was_open = self.detail
        if was_open:
            self.page, self.detail = self.opened_from, False
        return was_open

    def move(self, state: SessionState, by: int) -> None:
        """Select the request `by` rows further down the table."""
        ids = [request.request for request in self.table(state)]
        if not ids:
            return
        if self.selected in ids:
            at = ids.index(self.selected) + by
        else:
            at = 0 if by > 0 else len(ids) - 1
        self.selected, self.token = ids[max(0, min(len(ids) - 1, at))], None


@dataclass(frozen=True, slots=True)
class Connection:
    """How the source stands with its server; `detail` is one line for people, `hint` another."""

    status: Status
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Playback:
    """Where the time cursor stands between `start_ns` and `end_ns`, in a recording or in the ring
    of what is live. `markers` are in order of time; `rewound` is whether a live picture was moved
    since it was paused."""

    start_ns: int
    end_ns: int
    t_ns: int
    speed: float = 1.0
    playing: bool = False
    looping: bool = False
    rewound: bool = False
    markers: tuple[Marker, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What the terminal itself takes: percent of one core, KiB per second written."""

    cpu_pct: float | None = None
    kib_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One frame: all that a widget may look at. `behind_ns` is how far it is behind what is live,
    None unless the viewer held it. `findings` are those that ended, then those that are open;
    `news` those that opened or closed since the last frame, held or not.
    """

    state: SessionState
    model: ViewModel
    mode: str
    connection: Connection
    behind_ns: int | None = None
    bytes_recorded: int | None = None
    address: str = ""
    cost: Cost = Cost()
    playback: Playback | None = None
    _explainers: list[Explainer] = field(default_factory=list, repr=False, compare=False)
    objectives: tuple[Condition, ...] = ()
    findings: tuple[Finding, ...] = ()
    news: tuple[Finding, ...] = ()

    @property
    def request(self) -> RequestView | None:
        """The selected request, None without one or once it is no longer kept."""
        chosen = self.model.selected
        return None if chosen is None else self.state.requests.get(chosen)

    @property
    def replica(self) -> Replica | None:
        """The server whose page is open, of several; None where there is one, or all are shown."""
        return self.state.fleet.replicas.get(self.model.target)

    @property
    def focused(self) -> View:
        """The picture of the server whose page is open, as if it were watched alone."""
        if self.replica is None:
            return self
        state = copy(self.state)
        state.foreign = self.replica.foreign
        return replace(self, state=state)

    @property
    def explainer(self) -> Explainer:
        """Of the picture's state, one for all panels."""
        if not self._explainers:
            self._explainers.append(Explainer(self.state))
        return self._explainers[0]

    @property
    def starting(self) -> bool:
        """Whether the server has yet to say that it is ready for the first time."""
        if self.mode != "LIVE" or self.state.foreign.last or self.state.fleet.replicas:
            return False
        return all(s.name != "ready" for s in self.state.phases.spans)

    @property
    def wall_ns(self) -> int | None:
        """Unix time of the picture, None before the session began."""
        return wall_ns_of(self.state, self.state.t_ns)
