"""A recorded session in words: what was found, when, and how the file proves it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from llmtop.format import clock, seconds
from llmtop.sanitize import clean_line
from profiler.conditions import Condition
from profiler.events import Finding
from profiler.findings.watch import derive
from profiler.session.reader import SessionReader


class Episode(msgspec.Struct, frozen=True):
    """One finding over its whole time. `start_s` and `end_s` count from the session's first event;
    `end_s` is None where it was not over when the recording ended."""

    rule: str
    level: str
    start_s: float
    end_s: float | None
    text: str
    request: int
    step: int
    evidence: dict[str, int | float]
    sql: str


class Explained(msgspec.Struct, frozen=True):
    """`wall_s` is the Unix time of the first event. `model` and `device` are "" where the recording
    ended before one was loaded."""

    file: str
    model: str
    device: str
    wall_s: float
    duration_s: float
    num_requests: int
    objectives: list[str]
    findings: list[Episode]


def explain(path: Path, objectives: tuple[Condition, ...] | None = None) -> Explained:
    """The session in the file, found anew with today's rules. Raises: SessionFileError."""
    reader = SessionReader(path)
    try:
        state = reader.state_at(reader.start_ns)
        told = derive(reader.events(state.seq), objectives, state)
        held_to = reader.state_at(reader.end_ns).objectives if objectives is None else objectives
        session, start_ns = reader.session, reader.start_ns
        return Explained(
            str(path),
            "" if session is None else session.model,
            "" if session is None else session.device or session.upstream,
            reader.wall_ns / 1e9,
            (reader.end_ns - start_ns) / 1e9,
            reader.num_requests,
            [str(objective) for objective in held_to],
            episodes(told, start_ns),
        )
    finally:
        reader.close()


def episodes(told: list[Finding], start_ns: int) -> list[Episode]:
    """One for each number, in the order in which they began; the last event of each tells it."""
    last = {finding.finding: finding for finding in told}
    found = [_episode(finding, start_ns) for finding in last.values()]
    return sorted(found, key=lambda episode: episode.start_s)


def _episode(finding: Finding, start_ns: int) -> Episode:
    end_s = (finding.t_ns - start_ns) / 1e9 if finding.status == "closed" else None
    return Episode(
        finding.rule,
        finding.level,
        (finding.since_ns - start_ns) / 1e9,
        end_s,
        finding.text,
        finding.request,
        finding.step,
        finding.evidence,
        finding.sql,
    )


def text_of(explained: Explained) -> str:
    """For people; each query stands whole on a line of its own that begins with "sql"."""
    return "\n".join(_lines(explained))


def _lines(explained: Explained) -> Iterator[str]:
    what = " on ".join(clean_line(part) for part in (explained.model, explained.device) if part)
    yield f"{explained.file}: {what or 'no model was ready'}, {_wall(explained.wall_s)}"
    length = clock(round(explained.duration_s * 1e9))
    yield f"{length} long, {explained.num_requests} requests"
    if explained.objectives:
        yield f"held to {', '.join(explained.objectives)}"
    yield ""
    if not explained.findings:
        yield "nothing found"
        return
    for episode in explained.findings:
        yield from _told(episode)
    yield f"{len(explained.findings)} found; each query runs as it stands:"
    yield f'sqlite3 -header {shlex.quote(explained.file)} "..."'


def _told(episode: Episode) -> Iterator[str]:
    start = clock(round(episode.start_s * 1e9))
    if episode.end_s is None:
        lasted = "to the end of the recording"
    else:
        lasted = f"for {seconds(round((episode.end_s - episode.start_s) * 1e9))}"
    yield f"{start}  {clean_line(episode.rule)}, {episode.level}, {lasted}"
    yield f"  {clean_line(episode.text)}"
    numbers = (f"{name} {_number(value)}" for name, value in episode.evidence.items())
    yield f"  {', '.join(numbers)}"
    yield f"  sql {episode.sql}"
    yield ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _wall(wall_s: float) -> str:
    return f"{datetime.fromtimestamp(wall_s):%Y-%m-%d %H:%M:%S}"
