"""Notices findings that open and close, and holds a session to objectives of the viewer's own."""

from __future__ import annotations

from collections import deque
from typing import Final

from llmtop.webhook import Webhook
from profiler.conditions import Condition
from profiler.events import Finding
from profiler.findings.objective import LEVEL
from profiler.findings.watch import Watch
from profiler.folds.findings import Findings
from profiler.state import SessionState

_MAX_COMPLAINTS: Final = 16


class News:
    """What changed in a fold of findings since it was looked at last. At first, what is open."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def of(self, findings: Findings) -> list[Finding]:
        opened = [f for number, f in findings.open.items() if number not in self._open]
        closed = [f for f in findings.ended if f.finding in self._open - findings.open.keys()]
        self._open = set(findings.open)
        return [*closed, *opened]


class Alarm:
    """With `objectives` of one's own, those that the session names do not alert here: it is held to
    these from the moment on at which it is first looked at. Alerts go to `webhook`,
    and what that has to say about it may come to `complaints`.
    """

    def __init__(
        self, objectives: tuple[Condition, ...] | None = None, webhook: Webhook | None = None
    ) -> None:
        self._objectives = objectives
        self.webhook = webhook
        self.complaints: deque[str] = deque(maxlen=_MAX_COMPLAINTS)
        self._news, self._own_news = News(), News()
        self._start()

    def _start(self) -> None:
        self._watch = Watch(self._objectives, causes=False)
        self._own = Findings()
        self._t_ns = 0

    def look(self, state: SessionState) -> list[Finding]:
        """What opened or closed since the last look."""
        if self._objectives is not None:
            if state.t_ns < self._t_ns:  # a replay went back
                self._start()
            self._t_ns = state.t_ns
            for finding in self._watch.look(state):
                self._own.finding(finding)
        news = self._news.of(state.findings)
        if self._objectives is not None:
            news = [f for f in news if f.level != LEVEL] + self._own_news.of(self._own)
        model = "" if state.session is None else state.session.model
        for finding in news:
            if self.webhook is not None and finding.level == LEVEL:
                self.webhook.send(finding, model)
        return news

    def objectives(self, state: SessionState) -> tuple[Condition, ...]:
        """What the session is held to here."""
        return state.objectives if self._objectives is None else self._objectives

    def findings(self, state: SessionState) -> list[Finding]:
        """All that are known, those that ended first, each part in order of time."""
        told = state.findings
        if self._objectives is None:
            return told.all()
        ended = [f for f in told.ended if f.level != LEVEL] + list(self._own.ended)
        opened = [f for f in told.open.values() if f.level != LEVEL]
        ended.sort(key=lambda f: f.t_ns)
        return [*ended, *sorted([*opened, *self._own.open.values()], key=lambda f: f.t_ns)]

    def close(self) -> None:
        if self.webhook is not None:
            self.webhook.close()
