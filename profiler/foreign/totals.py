"""Several servers' numbers as one, by the rule that is right for each; or why there is no such
number."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from profiler.folds.fleet import Fleet, Replica
from profiler.folds.foreign import Foreign
from profiler.foreign.spread import Spread


class Total(msgspec.Struct, frozen=True):
    """Of the `num_told` servers that tell it, out of `num_live` that can be read now."""

    value: float
    num_told: int
    num_live: int


class Merged(NamedTuple):
    """Of the servers that tell it; None where `why` says what is in the way."""

    spread: Spread | None
    num_told: int
    num_live: int
    why: str


def summed_gauge(fleet: Fleet, key: str) -> Total | None:
    """None where no live server tells it."""
    return _summed(fleet, lambda foreign: foreign.gauge(key))


def summed_rate(fleet: Fleet, key: Callable[[Foreign], str]) -> Total | None:
    """Counters add up, and so do their rates; `key` is the counter's name in each server."""
    return _summed(fleet, lambda foreign: foreign.rate(key(foreign)))


def _summed(fleet: Fleet, of: Callable[[Foreign], float | None]) -> Total | None:
    live = fleet.live
    known = [value for replica in live if (value := of(replica.foreign)) is not None]
    return Total(sum(known), len(known), len(live)) if known else None


def usage(fleet: Fleet) -> Total | str:
    """The share of the caches' tokens that is in use, of the servers that tell both: each one's
    usage weighs as much as its capacity. Why not, where none does."""
    live = fleet.live
    told = [(r, share) for r in live if (share := r.foreign.gauge("kv_usage")) is not None]
    if not told:
        return "no server tells it"
    sized = [(share, tokens) for r, share in told if (tokens := r.foreign.gauge("kv_tokens"))]
    if len(told) == 1:
        sized = [(told[0][1], 1.0)]
    if not sized:
        return f"capacity not told by {_named([replica.told.name for replica, _ in told])}"
    used = sum(share * tokens for share, tokens in sized)
    return Total(used / sum(tokens for _, tokens in sized), len(sized), len(live))


def merged(fleet: Fleet, key: str) -> Merged:
    """All servers' values of a latency in one histogram, which only equal edges allow. Quantiles
    of quantiles would be nobody's."""
    live = fleet.live
    told = [r for r in live if r.foreign.last is not None and key in r.foreign.last.histograms]
    if not told:
        return Merged(None, 0, len(live), "no server tells it")
    spreads = {r.told.name: s for r in told if (s := r.foreign.spread(key)) is not None}
    if not spreads:
        return Merged(None, len(told), len(live), "no request within 60 s")
    (first, of_first), *others = spreads.items()
    unlike = [name for name, spread in others if spread.edges != of_first.edges]
    if unlike:
        why = f"edges of {_named(unlike)} are not those of {first}"
        return Merged(None, len(told), len(live), why)
    return Merged(_one(spreads.values()), len(told), len(live), "")


def _one(spreads: Iterable[Spread]) -> Spread:
    first, *others = spreads
    n, sum_s, ends = first.n, first.sum_s, list(first.ends)
    for other in others:
        n, sum_s = n + other.n, sum_s + other.sum_s
        ends = [end + more for end, more in zip(ends, other.ends, strict=True)]
    return Spread(n, sum_s, first.edges, tuple(ends))


def _named(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def peers(fleet: Fleet) -> list[list[Replica]]:
    """Live servers of one kind and one model: only they share a load, and mean the same by it."""
    groups: dict[tuple[str, str], list[Replica]] = {}
    for replica in fleet.live:
        groups.setdefault((replica.told.engine, replica.model), []).append(replica)
    return list(groups.values())
