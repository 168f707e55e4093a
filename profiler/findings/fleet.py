"""Among servers that are watched together: one that is not there, and one that has all the load."""

from __future__ import annotations

from statistics import median
from typing import Final

from profiler.findings.moment import Moment
from profiler.findings.rule import Signal
from profiler.folds.fleet import Replica
from profiler.foreign.totals import peers

_LATEST: Final = (
    "WITH latest AS (SELECT target, json_extract(gauges, '$.{gauge}') AS value, max(seq) "
    "FROM metrics_sample WHERE seq <= {seq} AND target IN ({targets}) GROUP BY target), "
    "rest AS (SELECT value FROM latest WHERE target != {worst}) "
    "SELECT (SELECT value FROM latest WHERE target = {worst}) AS {gauge}, "
    "(SELECT avg(value) FROM (SELECT value FROM rest ORDER BY value "
    "LIMIT 2 - (SELECT count(*) FROM rest) % 2 "
    "OFFSET (SELECT (count(*) - 1) / 2 FROM rest))) AS others"
)
_DOWN: Final = (
    "SELECT count(*) AS down FROM (SELECT status, max(seq) FROM target_state WHERE seq <= {seq} "
    "GROUP BY target) WHERE status = 'down'"
)


class ReplicaDown:
    """A server's page cannot be read."""

    name: Final = "replica_down"
    level: Final = "warning"
    open_s: Final = 3
    close_s: Final = 3

    def look(self, moment: Moment) -> Signal | None:
        told = [replica.told for replica in moment.state.fleet.replicas.values()]
        down = [one for one in told if one.status == "down"]
        if not down:
            return None
        names = ", ".join(f"{one.name} ({one.detail})" for one in down[:3])
        more = ", ..." if len(down) > 3 else ""
        what = "1 server" if len(down) == 1 else f"{len(down)} servers"
        return Signal(
            len(down),
            f"{what} cannot be read: {names}{more}",
            {"down": len(down)},
            _DOWN.format(seq=moment.state.seq),
        )


class Imbalance:
    """One server's `gauge` is at least `least` and `factor` times the median of the others of its
    kind and model."""

    level: Final = "warning"
    open_s: Final = 10
    close_s: Final = 10

    def __init__(self, name: str, gauge: str, least: float, factor: float, text: str) -> None:
        self.name: Final = name
        self._gauge = gauge
        self._least = least
        self._factor = factor
        self._text = text

    def look(self, moment: Moment) -> Signal | None:
        signals = [self._among(group, moment.state.seq) for group in peers(moment.state.fleet)]
        found = [signal for signal in signals if signal is not None]
        return max(found, key=lambda signal: signal.weight, default=None)

    def _among(self, group: list[Replica], seq: int) -> Signal | None:
        known = {
            replica.told.target: value
            for replica in group
            if (value := replica.foreign.gauge(self._gauge)) is not None
        }
        if len(known) < 2:
            return None
        worst = max(known, key=lambda target: known[target])
        value = known[worst]
        others = median(v for target, v in known.items() if target != worst)
        if value < self._least or value < self._factor * others:
            return None
        name = next(replica.told.name for replica in group if replica.told.target == worst)
        sql = _LATEST.format(
            gauge=self._gauge, seq=seq, worst=worst, targets=", ".join(map(str, known))
        )
        return Signal(
            value - others,
            self._text.format(name=name, value=value, others=others),
            {self._gauge: value, "others": others},
            sql,
        )


def fleet_rules() -> list[ReplicaDown | Imbalance]:
    """Those that look at several servers, and are silent in a session of one."""
    return [
        ReplicaDown(),
        Imbalance(
            "queue_imbalance",
            "waiting",
            8,
            4.0,
            "{value:.0f} requests wait at {name}, at the others {others:.0f} in the median",
        ),
        Imbalance(
            "kv_imbalance",
            "kv_usage",
            0.5,
            2.0,
            "the KV cache of {name} is {value:.0%} used, the others' {others:.0%} in the median",
        ),
    ]
