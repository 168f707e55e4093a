"""One look at a source, for scripts: no terminal, no waiting for more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from llmtop.errors import LlmtopError, SourceLostError
from llmtop.format import NONE
from llmtop.privacy import Privacy
from llmtop.sanitize import clean_line
from llmtop.sources.base import Source
from profiler.foreign.fleet_snapshot import FleetSnapshot, fleet_snapshot
from profiler.foreign.snapshot import ForeignSnapshot, foreign_snapshot
from profiler.snapshot import Snapshot, flattened, snapshot
from profiler.state import SessionState

WITHIN_S: Final = 10.0
_POLL_S: Final = 0.02
_PATIENT_READINGS: Final = 4

Picture = Snapshot | ForeignSnapshot | FleetSnapshot


def look_once(
    source: Source, private: bool = False, sleep: Callable[[float], None] = time.sleep
) -> Picture:
    """The source's state as soon as it has one; of a replay, where it stands. With `private` it is
    masked.

    Raises: SourceLostError when the first try fails, the source goes away before it has told
    enough, or nothing came within ten seconds; LlmtopError for one that refuses.
    """
    privacy = Privacy(private, source.address)
    source.start()
    try:
        for _ in range(round(WITHIN_S / _POLL_S)):
            state = source.poll(time.monotonic_ns())
            if source.connection.status in ("connected", "ended") and _is_whole(state):
                return _picture(privacy.state(state))
            _check(source)
            sleep(_POLL_S)
        if state.fleet.live:  # one that hangs takes nothing from the others
            return _picture(privacy.state(state))
    finally:
        source.stop()
    raise SourceLostError(f"{source.address} sent no state within {WITHIN_S:.0f} s")


def _picture(state: SessionState) -> Picture:
    if state.fleet.replicas:
        return fleet_snapshot(state)
    return snapshot(state) if state.foreign.last is None else foreign_snapshot(state, state.foreign)


def _is_whole(state: SessionState) -> bool:
    """A foreign server's rates and latencies need two readings, its KV events some more to answer
    in; of several servers each that is there."""
    if state.fleet.replicas:
        return all(
            replica.told.status == "down" or len(replica.foreign.samples) > 1
            for replica in state.fleet.replicas.values()
        )
    begun, readings = state.blocks.begun, len(state.foreign.samples)
    waits = begun is not None and begun.reason == "connecting" and readings <= _PATIENT_READINGS
    told = state.session is not None or bool(state.phases.spans) or readings > 1
    return told and not waits


def _check(source: Source) -> None:
    connection = source.connection
    if connection.status != "connected" and connection.detail:
        why = clean_line(connection.detail).removesuffix("; trying again")
        what = f"no picture of {source.address}: {why}"
        if connection.status == "failed":  # it is there, and will never answer with what we want
            raise LlmtopError(what, connection.hint)
        raise SourceLostError(what, connection.hint)


def as_json(found: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def as_plain(found: msgspec.Struct) -> str:
    """A line a field: its path, two spaces or more, its value."""
    rows = list(flattened(found))
    width = max(len(path) for path, _ in rows)
    return "\n".join(f"{path:<{width}}  {_text(value)}" for path, value in rows)


def _text(value: object) -> str:
    if value is None:
        return NONE
    return f"{value:.3f}" if isinstance(value, float) else clean_line(str(value))
