"""What several servers told, as a document for scripts."""

from __future__ import annotations

import msgspec

from profiler.folds.fleet import Fleet, Replica
from profiler.folds.foreign import Foreign
from profiler.foreign.snapshot import ForeignSnapshot, Latency, foreign_snapshot, latencies
from profiler.foreign.totals import Merged, Total, merged, summed_gauge, summed_rate, usage
from profiler.snapshot import VERSION
from profiler.state import SessionState
from profiler.walltime import wall_ns_of

GAUGES = ("running", "waiting")
RATES = ("prompt_tokens", "generation_tokens", "finished")
LATENCIES = ("ttft", "itl", "e2el")


class TargetSnapshot(msgspec.Struct, frozen=True):
    """`status` is asked, up, stale or down, for `in_status_s`; `detail` says why it is down.
    `reading` is the newest there is, None before the first."""

    target: int
    name: str
    status: str
    in_status_s: float
    engine: str
    version: str
    detail: str
    reading: ForeignSnapshot | None


class FleetTotals(msgspec.Struct, frozen=True):
    """Of the servers that are up, each total by those that tell it. A value that would not be right
    is not there, and `absent` says why."""

    num_live: int
    gauges: dict[str, Total]
    per_s: dict[str, Total]
    kv_usage: Total | None
    latency_ms: dict[str, Latency]
    absent: dict[str, str]


class FleetSnapshot(msgspec.Struct, frozen=True):
    version: int
    t_ns: int
    wall_ns: int | None
    totals: FleetTotals
    targets: list[TargetSnapshot]


def fleet_snapshot(state: SessionState) -> FleetSnapshot:
    return FleetSnapshot(
        version=VERSION,
        t_ns=state.t_ns,
        wall_ns=wall_ns_of(state, state.t_ns),
        totals=_totals(state.fleet),
        targets=[_target(state, replica) for replica in state.fleet.replicas.values()],
    )


def counter_of(key: str, foreign: Foreign) -> str:
    """The counter's name in this server: not all count output tokens as they are made."""
    return foreign.generated if key == "generation_tokens" else key


def _target(state: SessionState, replica: Replica) -> TargetSnapshot:
    told, foreign = replica.told, replica.foreign
    return TargetSnapshot(
        told.target,
        told.name,
        "stale" if told.status == "up" and foreign.is_stale else told.status,
        (state.t_ns - replica.since_ns) / 1e9,
        told.engine,
        told.version,
        told.detail,
        None if foreign.last is None else foreign_snapshot(state, foreign),
    )


def _totals(fleet: Fleet) -> FleetTotals:
    gauges = {key: summed_gauge(fleet, key) for key in GAUGES}
    rates = {key: _summed_rate(fleet, key) for key in RATES}
    used = usage(fleet)
    latency = {key: merged(fleet, key) for key in LATENCIES}
    return FleetTotals(
        num_live=len(fleet.live),
        gauges={key: total for key, total in gauges.items() if total is not None},
        per_s={key: total for key, total in rates.items() if total is not None},
        kv_usage=used if isinstance(used, Total) else None,
        latency_ms=latencies({key: found.spread for key, found in latency.items()}),
        absent=_absent(used, latency),
    )


def _absent(used: Total | str, latency: dict[str, Merged]) -> dict[str, str]:
    whys = {key: found.why for key, found in latency.items() if found.why}
    return whys if isinstance(used, Total) else {"kv_usage": used, **whys}


def _summed_rate(fleet: Fleet, key: str) -> Total | None:
    return summed_rate(fleet, lambda foreign: counter_of(key, foreign))


def fleet_line(fleet: Fleet) -> str:
    """The servers in one line; what nobody tells is left out."""
    totals = _totals(fleet)
    parts = [f"{totals.num_live} of {len(fleet.replicas)} servers up"]
    parts += [f"{key} {_text(total, '')}" for key, total in totals.gauges.items()]
    if (made := totals.per_s.get("generation_tokens")) is not None:
        parts.append(f"generated {_text(made, ' tok/s')}")
    if totals.kv_usage is not None:
        parts.append(f"kv {totals.kv_usage.value:.0%} used")
    parts += [f"{key} mean {told.mean:.1f} ms" for key, told in totals.latency_ms.items()]
    return "  ".join(parts)


def _text(total: Total, unit: str) -> str:
    part = f" ({total.num_told} of {total.num_live})" if total.num_told < total.num_live else ""
    return f"{total.value:,.0f}{unit}{part}"
