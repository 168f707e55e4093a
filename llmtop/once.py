"""One look at a source, for scripts: no terminal, no waiting for more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from llmtop.errors import LlmtopError
from llmtop.format import NONE
from llmtop.privacy import Privacy
from llmtop.sanitize import clean_line
from llmtop.sources.base import Source
from profiler.foreign.snapshot import ForeignSnapshot, foreign_snapshot
from profiler.snapshot import Snapshot, flattened, snapshot
from profiler.state import SessionState

WITHIN_S: Final = 10.0
_POLL_S: Final = 0.02


def look_once(
    source: Source, private: bool = False, sleep: Callable[[float], None] = time.sleep
) -> Snapshot | ForeignSnapshot:
    """The source's state as soon as it has one; of a replay, where it stands. With `private` it is
    masked.

    Raises: LlmtopError when the first try fails, or nothing came within ten seconds.
    """
    privacy = Privacy(private, source.address)
    source.start()
    try:
        for _ in range(round(WITHIN_S / _POLL_S)):
            state = source.poll(time.monotonic_ns())
            if source.connection.status in ("connected", "ended") and _is_whole(state):
                shown = privacy.state(state)
                return snapshot(shown) if state.foreign.last is None else foreign_snapshot(shown)
            _check(source)
            sleep(_POLL_S)
    finally:
        source.stop()
    raise LlmtopError(f"{source.address} sent no state within {WITHIN_S:.0f} s")


def _is_whole(state: SessionState) -> bool:
    """A foreign server's rates and latencies need two readings."""
    readings = len(state.foreign.samples)
    return state.session is not None or bool(state.phases.spans) or readings > 1


def _check(source: Source) -> None:
    connection = source.connection
    if connection.status != "connected" and connection.detail:
        why = clean_line(connection.detail).removesuffix("; trying again")
        raise LlmtopError(f"no picture of {source.address}: {why}", connection.hint)


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
