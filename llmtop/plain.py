"""The same picture where nobody can draw: a line now and then, and no control code ever."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Final

from llmtop.alarm import Alarm
from llmtop.errors import LlmtopError
from llmtop.format import NONE, clock, grouped, ns_as_ms, percent, seconds, short, size
from llmtop.journal import finding_entries
from llmtop.privacy import Privacy
from llmtop.sanitize import clean_line
from llmtop.sources.base import Replay, Source
from llmtop.viewmodel import Connection
from profiler.events import Finding, Log
from profiler.folds.phases import PhaseSpan
from profiler.foreign.fleet_snapshot import fleet_line
from profiler.foreign.snapshot import foreign_line
from profiler.state import SessionState
from profiler.walltime import wall_ns_of

POLL_S: Final = 0.25
LINE_EVERY_NS: Final = 10_000_000_000
INTERRUPTED: Final = 130
_TOLD_LEVELS: Final = ("warning", "error")

Write = Callable[[str], None]


def run_plain(source: Source, alarm: Alarm | None = None, private: bool = False) -> int:
    """The exit code: 0 once the source has ended, 130 after an interrupt. With `private` what is
    written is masked.

    Raises: LlmtopError if the source failed.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    alarm = alarm or Alarm()
    privacy = Privacy(private, source.address)
    narrator = Narrator(_print, source.address, alarm, privacy)
    try:
        source.start()
        replay = source.replay
        if replay is not None:
            play_through(source, replay, narrator)
        else:
            follow(source, narrator)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our lines has had enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        source.stop()
        alarm.close()
        signal.signal(signal.SIGTERM, before)
    connection = source.connection
    if connection.status == "failed":
        raise LlmtopError(privacy.text(connection.detail), privacy.text(connection.hint))
    return 0


def follow(source: Source, narrator: Narrator, sleep: Callable[[float], None] = time.sleep) -> None:
    """Tell of a live source until it has ended or failed."""
    while True:
        now_ns = time.monotonic_ns()
        state = source.poll(now_ns)
        narrator.tell(state, source.connection)
        if source.connection.status in ("ended", "failed"):
            return
        sleep(POLL_S)


def play_through(source: Source, replay: Replay, narrator: Narrator) -> None:
    """Tell of a recorded session from where it stands to its end, as fast as it can be read."""
    if replay.playback.playing:
        replay.toggle()
    while True:
        playback = replay.playback
        narrator.tell(source.poll(0), source.connection, last=playback.t_ns >= playback.end_ns)
        if playback.t_ns >= playback.end_ns:
            return
        replay.seek(min(playback.end_ns, playback.t_ns + LINE_EVERY_NS))


class Narrator:
    """Writes what is new: connection, phases, warnings, findings, and a summary every 10 s."""

    def __init__(
        self, write: Write, address: str, alarm: Alarm, privacy: Privacy | None = None
    ) -> None:
        self._write = write
        self._alarm = alarm
        self._privacy = privacy or Privacy()
        self._address = self._privacy.address(address)
        self._connection = Connection("connecting")
        self._phase = ""
        self._told_ns = 0
        self._summary_ns: int | None = None

    def tell(self, state: SessionState, connection: Connection, last: bool = False) -> None:
        found = self._alarm.look(state)
        state, connection = self._privacy.state(state), self._privacy.connection(connection)
        if connection != self._connection:
            self._connection = connection
            detail = f": {clean_line(connection.detail)}" if connection.detail else ""
            if connection.status != "failed":
                self._write(f"{connection.status}{detail or ': ' + self._address}")
        findings = self._privacy.findings(found)
        lines = chain(self._phases(state), self._log(state), self._findings(findings))
        for t_ns, text in sorted(lines, key=itemgetter(0)):
            self._write(f"{stamp(state, t_ns)}{text}")
        while self._alarm.complaints:
            self._write(self._privacy.text(self._alarm.complaints.popleft()))
        ready = any(span.name == "ready" for span in state.phases.spans)
        ready = ready or len(state.foreign.samples) > 1 or bool(state.fleet.live)
        since = self._summary_ns
        if ready and (last or since is None or state.t_ns - since >= LINE_EVERY_NS):
            self._summary_ns = state.t_ns
            self._write(summary(state))

    def _phases(self, state: SessionState) -> Iterator[tuple[int, str]]:
        """A phase at its begin, how far it is every 10 s."""
        span = state.phase
        if span is None:
            return
        text = f"{span.name}{_progress(span, state.t_ns)}"
        new = span.name != self._phase.partition(" ")[0]
        if new or (text != self._phase and self._due(state)):
            self._phase, self._summary_ns = text, None if new else state.t_ns
            yield (span.t_ns if new and not span.total else state.t_ns), text

    def _due(self, state: SessionState) -> bool:
        return self._summary_ns is None or state.t_ns - self._summary_ns >= LINE_EVERY_NS

    def _log(self, state: SessionState) -> Iterator[tuple[int, str]]:
        for line in state.log.lines:
            if line.t_ns > self._told_ns and line.level in _TOLD_LEVELS:
                yield line.t_ns, _log_text(line)
        if state.log.lines:
            self._told_ns = max(self._told_ns, state.log.lines[-1].t_ns)

    def _findings(self, found: list[Finding]) -> Iterator[tuple[int, str]]:
        for finding in found:
            yield finding.t_ns, _log_text(finding_entries(finding)[-1])


def _progress(span: PhaseSpan, t_ns: int) -> str:
    if not span.total:
        return ""
    number = size if span.unit == "bytes" else grouped
    unit = "" if span.unit == "bytes" else f" {clean_line(span.unit)}"
    return f" {number(span.done)} of {number(span.total)}{unit} after {seconds(t_ns - span.t_ns)}"


def _log_text(line: Log) -> str:
    return f"{line.level} {clean_line(line.source)}: {clean_line(line.text)}"


def stamp(state: SessionState, t_ns: int) -> str:
    """Local time of `t_ns` and a space; nothing before the session began."""
    wall_ns = wall_ns_of(state, t_ns)
    return "" if wall_ns is None else datetime.fromtimestamp(wall_ns / 1e9).strftime("%H:%M:%S ")


def summary(state: SessionState) -> str:
    """The service in one line."""
    if state.fleet.replicas:
        return f"{stamp(state, state.t_ns)}{clean_line(fleet_line(state.fleet))}"
    if state.foreign.last is not None:
        return f"{stamp(state, state.t_ns)}{clean_line(foreign_line(state.foreign))}"
    flow, requests, pages = state.throughput, state.requests, state.pages
    session = state.session
    up = clock(None if session is None else state.t_ns - session.t_ns)
    parts = [
        f"{stamp(state, state.t_ns)}up {up}",
        f"running {requests.num_running} waiting {_told(state, requests.num_waiting)}",
        f"done {requests.num_finished} failed {requests.num_aborted + requests.num_rejected}",
        f"preempted {_told(state, requests.num_preemptions)}",
        f"generated {short(flow.generated_per_s)} prompt {short(flow.prompt_per_s)} tok/s",
        _latency(state, "ttft"),
        _latency(state, "itl"),
        f"kv {_told(state, percent(pages.used, pages.num_pages))} used",
        f"drops {state.drops}",
    ]
    return "  ".join(parts)


def _told(state: SessionState, value: int | str) -> str:
    """What only an engine of ours tells."""
    return NONE if state.upstream else str(value)


def _latency(state: SessionState, name: str) -> str:
    found = state.latency.quantiles(name)
    if found is None:
        return f"{name} {NONE}"
    return f"{name} p50 {ns_as_ms(round(found.p50))} p95 {ns_as_ms(round(found.p95))} ms"


def _print(line: str) -> None:
    print(line, flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
