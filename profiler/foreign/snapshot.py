"""What a foreign server told, as a document for scripts."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from profiler.folds.foreign import RATE_S, SPREAD_S, Foreign
from profiler.folds.hashedblocks import HashedBlocks
from profiler.foreign.spread import Quantile, Spread
from profiler.snapshot import VERSION
from profiler.state import SessionState
from profiler.walltime import wall_ns_of


class Bounds(msgspec.Struct, frozen=True):
    """A quantile from a histogram: above `low`, at most `high`, None beyond its last edge; `guess`
    between them, None there and below its first edge."""

    low: float
    high: float | None
    guess: float | None


class Latency(msgspec.Struct, frozen=True):
    n: float
    mean: float
    p50: Bounds
    p95: Bounds
    p99: Bounds


class CachedBlocks(msgspec.Struct, frozen=True):
    """What the server's KV events tell of its prefix cache: `num_blocks` with `distinct_blocks`
    among them; all of them if `whole`, else those that were stored since we listen."""

    num_blocks: int
    distinct_blocks: int
    whole: bool


class ForeignSnapshot(msgspec.Struct, frozen=True):
    """Only what its metrics page has: `gauges` of now, `per_s` rates of its counters over
    `rate_window_s`, `latency_ms` over `latency_window_s`."""

    version: int
    t_ns: int
    wall_ns: int | None
    engine: str
    model: str
    rate_window_s: int
    latency_window_s: int
    gauges: dict[str, float]
    per_s: dict[str, float]
    prefix_hit_share: float | None
    latency_ms: dict[str, Latency]
    stale: bool
    cached_blocks: CachedBlocks | None = None


def foreign_snapshot(state: SessionState, foreign: Foreign) -> ForeignSnapshot:
    """Of one server with at least one reading."""
    last = foreign.last
    assert last is not None
    rates = {key: foreign.rate(key) for key in last.counters}
    return ForeignSnapshot(
        version=VERSION,
        t_ns=state.t_ns,
        wall_ns=wall_ns_of(state, state.t_ns),
        engine=last.engine,
        model=last.model,
        rate_window_s=RATE_S,
        latency_window_s=SPREAD_S,
        gauges=last.gauges,
        per_s={key: rate for key, rate in rates.items() if rate is not None},
        prefix_hit_share=foreign.prefix_share,
        latency_ms=latencies({key: foreign.spread(key) for key in last.histograms}),
        stale=foreign.is_stale,
        cached_blocks=_blocks(state.blocks),
    )


def foreign_line(foreign: Foreign) -> str:
    """The server in one line; what its page does not have is left out."""
    last = foreign.last
    if last is None:
        return ""
    parts = [
        f"{key} {last.gauges[key]:,.0f}" for key in ("running", "waiting") if key in last.gauges
    ]
    if (rate := foreign.rate(foreign.generated)) is not None:
        parts.append(f"generated {rate:,.1f} tok/s")
    if (usage := foreign.gauge("kv_usage")) is not None:
        parts.append(f"kv {usage:.0%} used")
    for key in ("ttft", "itl"):
        if (spread := foreign.spread(key)) is not None:
            parts.append(f"{key} mean {spread.mean_s * 1e3:.1f} ms")
    return "  ".join([last.engine, *parts])


def latencies(spreads: Mapping[str, Spread | None]) -> dict[str, Latency]:
    """Those that have values."""
    return {key: _latency(spread) for key, spread in spreads.items() if spread is not None}


def _blocks(blocks: HashedBlocks) -> CachedBlocks | None:
    if blocks.begun is None:
        return None
    return CachedBlocks(blocks.num_blocks(), blocks.num_distinct, blocks.whole)


def _latency(spread: Spread) -> Latency:
    p50, p95, p99 = (_bounds(spread.quantile(share)) for share in (0.5, 0.95, 0.99))
    return Latency(spread.n, spread.mean_s * 1e3, p50, p95, p99)


def _bounds(found: Quantile) -> Bounds:
    low, high, guess = (None if value is None else value * 1e3 for value in found)
    return Bounds(low or 0.0, high, guess)
