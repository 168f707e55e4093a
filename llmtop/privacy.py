"""What could tell who asked what and where, taken out of a picture before anything is made of it.

Screens, copies, screenshots and files are all made from one picture. So this is the one place that
has to know: a widget cannot show what its picture does not hold.
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from llmtop.format import short_name
from profiler.events import Finding, Log, SessionStart
from profiler.findings.words import NAMED, cut_name
from profiler.folds.findings import Findings
from profiler.folds.fleet import Fleet, Replica
from profiler.folds.foreign import Foreign
from profiler.folds.logs import Logs
from profiler.folds.request_view import RequestView
from profiler.folds.requests import Requests
from profiler.state import SessionState

if TYPE_CHECKING:
    from llmtop.viewmodel import Connection, Playback
    from profiler.compare.comparison import Comparison, Side
    from profiler.compare.config import Change
    from profiler.compare.regressions import Regression

HIDDEN: Final = "•••"
# Shorter ones, and short numbers, are as likely another word of the text.
_LEAST_NAME: Final = 3
_LEAST_NUMBER: Final = 6
_MAX_KNOWN: Final = 4096
_OURS: Final = re.compile(r"#\d+").fullmatch
_PLACE: Final = re.compile(
    r"""
      [a-z][a-z0-9+.-]*://[^\s'",;)]+                      # a URL
    | (?P<quote>['"])~?/.*?(?P=quote)                      # a path in quotes, spaces and all
    | (?<![\w/•])~?/[^\s'",;:()]+                          # a path
    | [\w.+-]+@[\w.-]+\w                                   # an address of mail, or user at host
    | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b                 # IPv4
    | \[[0-9a-f:.]+(?:%\w+)?\](?::\d+)?                    # IPv6 in brackets
    | (?<![\w:])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}\b     # IPv6, with more colons than a time
    | (?<![\w:])(?:[0-9a-f]{1,4}:)*:(?::?[0-9a-f]{1,4})+   # IPv6, shortened
    | \b[a-z][\w.-]*:\d{2,5}\b                             # host and port
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Privacy:
    """While `on`, requests are called by our numbers, and hosts, paths and texts are masked.

    `address` is that of the source: it is hidden wherever a text repeats it.
    """

    def __init__(self, on: bool = False, address: str = "") -> None:
        self.on = on
        self._own = {address, urlsplit(address).hostname or "", _own_host()}
        self._hosts = _alternatives(self._own)
        self._servers: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._known: dict[str, str] = {}
        self._done: dict[int, tuple[RequestView, RequestView]] = {}

    def state(self, state: SessionState) -> SessionState:
        """`state` itself, or while on a masked one that shares all else with it."""
        if not self.on:
            return state
        self._learn(state.requests, state.fleet)
        masked = copy(state)
        masked.session = None if state.session is None else self._session(state.session)
        masked.requests = self._requests(state.requests)
        masked.foreign = self._foreign(state.foreign)
        masked.fleet = self._fleet(state.fleet)
        masked.log = self._log(state.log)
        masked.findings = self._findings(state.findings)
        return masked

    def text(self, text: str) -> str:
        """`text` without names of requests that the last state knew, hosts and paths."""
        if not self.on:
            return text
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[text] = self._masked(text)
        return known

    def about(self, text: str, files: Iterable[Path]) -> str:
        """`text` about `files`, without their names."""
        if not self.on:
            return text
        for file in files:
            text = text.replace(file.name, HIDDEN)
        return self.text(text)

    def model(self, model: str) -> str:
        """Without the folders before it."""
        return re.split(r"[/\\]", model.rstrip("/\\"))[-1] if self.on else model

    def comparison(self, comparison: Comparison) -> Comparison:
        """`comparison` itself, or while on a masked one."""
        if not self.on:
            return comparison
        one = comparison.a.path == comparison.b.path
        return msgspec.structs.replace(
            comparison,
            a=self._side(comparison.a, HIDDEN),
            b=self._side(comparison.b, HIDDEN if one else f"B/{HIDDEN}"),
            config=[self._change(change) for change in comparison.config],
            regressions=[_numbered(pair) for pair in comparison.regressions],
        )

    def _side(self, side: Side, path: str) -> Side:
        return msgspec.structs.replace(side, path=path, model=self.model(side.model))

    def _change(self, change: Change) -> Change:
        a, b = (self.text(v) if isinstance(v, str) else v for v in (change.a, change.b))
        return msgspec.structs.replace(change, a=a, b=b)

    def words(self, text: str) -> str:
        """What somebody wrote: while on only how long each word is."""
        return re.sub(r"\S", "•", text) if self.on else text

    def address(self, address: str) -> str:
        """Of a URL the port stays, of a file nothing."""
        if not self.on:
            return address
        parts = urlsplit(address)
        if not parts.netloc:
            return HIDDEN
        port = "" if parts.port is None else f":{parts.port}"
        return f"{parts.scheme}://{HIDDEN}{port}"

    def connection(self, connection: Connection) -> Connection:
        if not self.on:
            return connection
        detail, hint = self.text(connection.detail), self.text(connection.hint)
        return replace(connection, detail=detail, hint=hint)

    def playback(self, playback: Playback | None) -> Playback | None:
        if not self.on or playback is None:
            return playback
        markers = tuple(m._replace(text=self.text(m.text)) for m in playback.markers)
        return replace(playback, markers=markers)

    def findings(self, findings: Iterable[Finding]) -> list[Finding]:
        return [msgspec.structs.replace(f, text=self.text(f.text)) for f in findings]

    def _learn(self, requests: Requests, fleet: Fleet) -> None:
        """Which names a text may hold, and whose they are."""
        names = {replica.told.name for replica in fleet.replicas.values()}
        if names != self._servers:
            self._servers = names
            self._hosts = _alternatives({*self._own, *names})
        self._numbers = {
            name: view.request
            for view in (*requests.done, *requests.live.values())
            for name in (view.name, short_name(view.name), cut_name(view.name))
            if _tells(name)
        }

    def _masked(self, text: str) -> str:
        for name in sorted((n for n in self._numbers if n in text), key=len, reverse=True):
            number = self._numbers[name]
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", f"#{number}", text)
        text = NAMED.sub(lambda found: found[0] if _OURS(found[0]) else HIDDEN, text)
        return self._hosts.sub(HIDDEN, _PLACE.sub(HIDDEN, text))

    def _session(self, session: SessionStart) -> SessionStart:
        config = {k: self.text(v) if isinstance(v, str) else v for k, v in session.config.items()}
        upstream = HIDDEN if session.upstream else ""
        model = self.model(session.model)
        return msgspec.structs.replace(session, model=model, config=config, upstream=upstream)

    def _foreign(self, foreign: Foreign) -> Foreign:
        masked, last = copy(foreign), foreign.last
        if last is not None:
            named = msgspec.structs.replace(last, model=self.model(last.model))
            masked.samples = deque([*islice(foreign.samples, len(foreign.samples) - 1), named])
        return masked

    def _fleet(self, fleet: Fleet) -> Fleet:
        masked = copy(fleet)
        masked.replicas = {number: self._replica(r) for number, r in fleet.replicas.items()}
        return masked

    def _replica(self, replica: Replica) -> Replica:
        told = replica.told
        name = self.address(f"http://{told.name}").removeprefix("http://")
        masked = msgspec.structs.replace(told, name=name, detail=self.text(told.detail))
        return Replica(masked, replica.since_ns, self._foreign(replica.foreign))

    def _requests(self, requests: Requests) -> Requests:
        masked = copy(requests)
        masked.live = {number: self._request(view) for number, view in requests.live.items()}
        # One that has ended stays the same object from picture to picture, as without a mask.
        done: dict[int, tuple[RequestView, RequestView]] = {}
        for view in requests.done:
            before = self._done.get(view.request)
            known = before is not None and before[0] is view
            done[view.request] = before if before and known else (view, self._request(view))
        self._done = done
        masked.done = deque((other for _, other in done.values()), requests.done.maxlen)
        return masked

    def _request(self, view: RequestView) -> RequestView:
        masked = copy(view)
        masked.name = f"#{view.request}"
        masked.finish_reason = view.finish_reason and self.text(view.finish_reason)
        return masked

    def _log(self, log: Logs) -> Logs:
        masked = copy(log)
        lines = (Log(x.t_ns, x.level, x.source, self.text(x.text)) for x in log.lines)
        masked.lines = deque(lines, log.lines.maxlen)
        return masked

    def _findings(self, findings: Findings) -> Findings:
        masked = copy(findings)
        masked.open = dict(zip(findings.open, self.findings(findings.open.values()), strict=True))
        masked.ended = deque(self.findings(findings.ended), findings.ended.maxlen)
        return masked


def _tells(name: str) -> bool:
    return len(name) >= (_LEAST_NUMBER if name.isdecimal() else _LEAST_NAME)


def _numbered(pair: Regression) -> Regression:
    a, b = f"#{pair.request_a}", f"#{pair.request_b}"
    return msgspec.structs.replace(pair, name_a=a, name_b=b)


def _own_host() -> str:
    return socket.gethostname().partition(".")[0]


def _alternatives(texts: Iterable[str]) -> re.Pattern[str]:
    """What finds any of `texts` as words of their own."""
    known = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, known)) or '(?!)'})(?!\w)")
