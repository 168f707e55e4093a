"""Unix time of a session's instants."""

from __future__ import annotations

from profiler.state import SessionState


def wall_ns_of(state: SessionState, t_ns: int) -> int | None:
    """None before the session began, or the first reading of another server."""
    known = state.session or state.foreign.last or state.fleet.last
    return None if known is None else known.wall_ns + t_ns - known.t_ns
