"""What several servers do together, where such a number is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llmtop.format import NONE, grouped, percent, short
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, flowed
from llmtop.widgets.spreadcells import NAME, cells, head
from profiler.folds.fleet import Fleet
from profiler.folds.foreign import RATE_S, SPREAD_S
from profiler.foreign.fleet_snapshot import LATENCIES, counter_of
from profiler.foreign.totals import Merged, Total, merged, summed_gauge, summed_rate, usage

_BAR: Final = 24


class FleetTotals(Panel):
    about = (
        "The servers that are up, taken together: running, waiting and rates add up; usage weighs "
        "each by its capacity; a quantile is that of all histograms in one, which only equal edges "
        "allow. (2 of 3) says how many of them tell it."
    )

    def title(self, view: View) -> Row:
        return (("Together", "title"),)

    def note(self, view: View) -> str:
        return f"rates over {RATE_S} s, latencies over {SPREAD_S} s"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        fleet = view.state.fleet
        latencies = [_latency(fleet, key) for key in LATENCIES]
        return [*flowed(_load(fleet), width, "   "), _usage(fleet), head(), *latencies]


def _load(fleet: Fleet) -> list[Row]:
    rates = (("generated", "generation_tokens", " tok/s"), ("prompt", "prompt_tokens", " tok/s"))
    parts = [_rate(fleet, name, key, unit) for name, key, unit in rates]
    gauges = [_told(key, summed_gauge(fleet, key), grouped) for key in ("running", "waiting")]
    return [*parts, *gauges, _rate(fleet, "done", "finished", " req/s")]


def _rate(fleet: Fleet, name: str, key: str, unit: str) -> Row:
    total = summed_rate(fleet, lambda foreign: counter_of(key, foreign))
    return _told(name, total, lambda value: short(value) + unit)


def _told(name: str, total: Total | None, form: Callable[[float], str]) -> Row:
    if total is None:
        return ((f"{name} ", "dim"), (NONE, "dim"))
    return ((f"{name} ", "dim"), (form(total.value), "value"), *_part(total))


def _part(found: Total | Merged) -> Row:
    """How many tell it, where not all do."""
    if found.num_told == found.num_live:
        return ()
    return ((f" ({found.num_told} of {found.num_live})", "dim"),)


def _usage(fleet: Fleet) -> Row:
    found = usage(fleet)
    if not isinstance(found, Total):
        return (("KV cache  ", "dim"), (f"not shown: {found}", "dim"))
    share = (f" {percent(found.value, 1.0)}", "value")
    return (("KV cache  ", "dim"), *bar(found.value, 1.0, _BAR, "chart"), share, *_part(found))


def _latency(fleet: Fleet, key: str) -> Row:
    found = merged(fleet, key)
    name = (key.ljust(NAME), "text")
    if found.spread is None:
        return (name, (f"  not shown: {found.why}", "dim"))
    return (name, cells(found.spread), *_part(found))
