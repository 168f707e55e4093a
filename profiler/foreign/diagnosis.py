"""What a metrics page has of what there is to show: which names, by which of their spellings."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from profiler.foreign.names import Engine, Metric
from profiler.foreign.page import Page, names_of
from profiler.foreign.reading import name_in, names_read, page_of

# What there is to show, and the keys that tell it: the first that a page has does.
_SIGNALS: Final = (
    ("running requests", ("running",)),
    ("waiting requests", ("waiting",)),
    ("generated tokens", ("generation_tokens", "generation_tokens_at_end")),
    ("prompt tokens", ("prompt_tokens",)),
    ("requests done", ("finished",)),
    ("preemptions", ("preemptions",)),
    ("KV usage", ("kv_usage",)),
    ("prefix cache hits", ("prefix_hits", "prefix_hit_rate")),
    ("time to first token", ("ttft",)),
    ("time between tokens", ("itl", "generation_s")),
    ("time of a request", ("e2el",)),
    ("time in the queue", ("queue",)),
    ("time in prefill", ("prefill",)),
    ("time in decode", ("decode",)),
)
_MAX_UNREAD: Final = 500
_PARTS: Final = ("_total", "_bucket", "_count", "_sum", "_created")


class Signal(msgspec.Struct, frozen=True):
    """`name` is the server's own, "" if it has none.

    "renamed" is a name that other versions of it call differently, "quiet" one that is declared and
    has no value before the first request.
    """

    what: str
    status: Literal["found", "renamed", "quiet", "missing"]
    name: str
    remark: str


def diagnose(text: str, engine: Engine) -> list[Signal]:
    page, declared = page_of(text, engine), _declared(text)
    return [_signal(page, declared, engine, what, keys) for what, keys in _SIGNALS]


def unread(text: str, engine: Engine) -> list[str]:
    """Families of the engine's own on the page that nothing is made of, the first 500."""
    read = {_family(name) for name in names_read(engine)}
    own = {_family(name) for name in names_of(text) if name.startswith(engine.prefix)}
    return sorted(own - read)[:_MAX_UNREAD]


def _signal(
    page: Page, declared: set[str], engine: Engine, what: str, keys: tuple[str, ...]
) -> Signal:
    metrics = [(key, *found) for key in keys if (found := _metric(engine, key)) is not None]
    for key, metric, part in metrics:
        name = name_in(page, metric, part)
        if name is not None:
            return _found(what, metric, name.removesuffix(part), engine.marks.get(key, ""))
    for _, metric, _ in metrics:
        quiet = [name for name in metric.names if _family(name) in declared]
        if quiet:
            return Signal(what, "quiet", quiet[0], "no value yet: it comes with the first request")
    why = engine.needs.get(keys[0]) or engine.lacks.get(keys[0])
    unknown = "not on this page" if metrics else f"{engine.name} does not expose it"
    return Signal(what, "missing", "", why or unknown)


def _found(what: str, metric: Metric, name: str, mark: str) -> Signal:
    if name == metric.names[0]:
        return Signal(what, "found", name, mark)
    other = f"called {metric.names[0]} by other versions"
    return Signal(what, "renamed", name, f"{other}; {mark}" if mark else other)


def _metric(engine: Engine, key: str) -> tuple[Metric, str] | None:
    """And what its samples have behind their name."""
    if key in engine.histograms:
        return engine.histograms[key], "_bucket"
    metric = engine.gauges.get(key) or engine.counters.get(key)
    return None if metric is None else (metric, "")


def _declared(text: str) -> set[str]:
    """Families with a TYPE line."""
    words = (line.split() for line in text.splitlines() if line.startswith("# TYPE "))
    return {_family(found[2]) for found in words if len(found) > 2}


def _family(name: str) -> str:
    for part in _PARTS:
        name = name.removesuffix(part)
    return name
