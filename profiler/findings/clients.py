"""A client reads more slowly than its tokens come."""

from __future__ import annotations

from typing import Final

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal
from profiler.findings.words import name_of


class SlowClient:
    """A write to a client has waited for a second or more: its answer is late, not the engine's."""

    name: Final = "slow_client"
    level: Final = "warning"
    open_s: Final = 1
    close_s: Final = 5

    def look(self, moment: Moment) -> Signal | None:
        event = moment.state.clients.worst(moment.state.t_ns)
        if event is None:
            return None
        waited_s = (event.t_ns - event.since_ns) / 1e9
        name = name_of(moment.state, event.request)
        return Signal(
            waited_s,
            f"the client of {name} has taken nothing for {waited_s:.1f} s: "
            f"{event.num_tokens:,} more tokens wait for it",
            {"waited_s": waited_s, "tokens": event.num_tokens},
            "SELECT (t_ns - since_ns) / 1e9 AS waited_s, num_tokens AS tokens FROM client_behind "
            f"WHERE request = {event.request} AND t_ns = {event.t_ns}",
            request=event.request,
        )
