"""What the metrics page of another kind of server tells, with what it does not."""

from __future__ import annotations

from typing import Final

from llmtop.format import NONE, grouped, milliseconds, percent, short, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row, Span, flowed
from llmtop.widgets.spreadcells import COLUMN, NAME, cells, head
from profiler.folds.foreign import RATE_S, SPREAD_S, Foreign
from profiler.foreign.names import BY_NAME, Engine

_UNKNOWN: Final = Engine("", "", {}, {}, {})
_LATENCIES: Final = (
    ("ttft", "to the first token"),
    ("itl", "between tokens"),
    ("e2el", "of whole requests"),
    ("queue", "in the queue"),
    ("prefill", "in prefill"),
    ("decode", "in decode"),
)
_BAR: Final = 24


def engine_of(foreign: Foreign) -> Engine:
    return _UNKNOWN if foreign.last is None else BY_NAME.get(foreign.last.engine, _UNKNOWN)


class ForeignBoard(Panel):
    about = (
        "What the server's metrics page tells, read once a second. ~ is an estimate: a histogram "
        "tells between which two edges a value lies; < is below its first and > beyond its last."
    )

    def title(self, view: View) -> Row:
        last = view.state.foreign.last
        if last is None:
            name = "Metrics" if view.replica is None else clean_line(view.replica.told.name)
            return ((name, "title"),)
        model = clean_line(last.model)
        return ((f"{last.engine} ", "title"), (model, "value"))

    def note(self, view: View) -> str:
        if view.replica is not None and view.replica.told.status == "down":
            return f"DOWN: {clean_line(view.replica.told.detail)}"
        if view.state.foreign.is_stale:
            return "STALE: nothing new for some seconds"
        return f"rates over {RATE_S} s, latencies over {SPREAD_S} s"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        foreign = view.state.foreign
        if foreign.last is None:
            return [(("its page has not been read yet", "dim"),)]
        engine = engine_of(foreign)
        rows = [*_load(foreign, engine, width), *_cache(foreign, engine, width), EMPTY, head()]
        return [*rows, *(_latency(foreign, engine, key, what) for key, what in _LATENCIES)]


def _load(foreign: Foreign, engine: Engine, width: int) -> list[Row]:
    parts = [
        _rate(foreign, engine, "generated", foreign.generated, " tok/s"),
        _rate(foreign, engine, "prompt", "prompt_tokens", " tok/s"),
        _rate(foreign, engine, "done", "finished", " req/s"),
        _gauge(foreign, engine, "running"),
        _gauge(foreign, engine, "waiting"),
        _rate(foreign, engine, "preempted", "preemptions", "/s"),
    ]
    return flowed([*parts, *_loaded(foreign)], width, "   ")


def _loaded(foreign: Foreign) -> list[Row]:
    """Of a server that loads models as they are asked for."""
    models, used = foreign.gauge("models_loaded"), foreign.gauge("vram_bytes")
    if models is None or used is None:
        return []
    whole = f"{size(used)} of {size(foreign.gauge('model_bytes'))}"
    return [_told("models loaded", grouped(models), None), _told("in VRAM", whole, None)]


def _rate(foreign: Foreign, engine: Engine, name: str, key: str, unit: str) -> Row:
    value = foreign.rate(key)
    return _told(name, NONE if value is None else short(value) + unit, engine.marks.get(key))


def _gauge(foreign: Foreign, engine: Engine, key: str) -> Row:
    return _told(key, grouped(foreign.gauge(key)), engine.marks.get(key))


def _told(name: str, text: str, mark: str | None) -> Row:
    row: Row = ((f"{name} ", "dim"), (text, "dim" if text == NONE else "value"))
    return (*row, (f" ({mark})", "dim")) if mark and text != NONE else row


def _cache(foreign: Foreign, engine: Engine, width: int) -> list[Row]:
    return [*flowed(_usage(foreign, engine), width), _prefix(foreign, engine)]


def _usage(foreign: Foreign, engine: Engine) -> list[Row]:
    usage, tokens = foreign.gauge("kv_usage"), foreign.gauge("kv_tokens")
    if usage is None:
        return [(("KV cache  ", "dim"), (_why(engine, "kv_usage"), "dim"))]
    share = (f" {percent(usage, 1.0)}", "value")
    rows: list[Row] = [(("KV cache  ", "dim"), *bar(usage, 1.0, _BAR, "chart"), share)]
    if tokens is not None:
        rows.append(((f"of {grouped(tokens)} tokens", "value"),))
    if mark := engine.marks.get("kv_usage"):
        rows.append(((f"({mark})", "dim"),))
    return rows


def _prefix(foreign: Foreign, engine: Engine) -> Row:
    share = foreign.prefix_share
    if share is None:
        known = foreign.last is not None and "prefix_hits" in foreign.last.counters
        return (("prefix    ", "dim"), (_quiet() if known else _why(engine, "prefix"), "dim"))
    row: Row = (("prefix    ", "dim"), (percent(share, 1.0), "value"))
    mark = engine.marks.get("prefix_hit_rate", "of prompt tokens came out of the cache")
    return (*row, (f" {mark}", "dim"))


def _why(engine: Engine, key: str) -> str:
    told = engine.lacks.get(key) or engine.needs.get(key)
    return told or f"not exposed by {engine.name or 'this server'}"


def _quiet() -> str:
    return f"no request within {SPREAD_S} s"


def _latency(foreign: Foreign, engine: Engine, key: str, what: str) -> Row:
    name: Span = (key.ljust(NAME), "text")
    spread = foreign.spread(key)
    if spread is not None:
        return (name, cells(spread), (f"  {engine.marks.get(key, what)}", "dim"))
    mean_s = foreign.mean_itl_s if key == "itl" else None
    if mean_s is not None:
        mean = milliseconds(mean_s * 1e3).rjust(COLUMN)
        return (name, (NONE.rjust(COLUMN), "dim"), (mean, "value"))
    known = foreign.last is not None and key in foreign.last.histograms
    return (name, (f"  {_quiet() if known else _why(engine, key)}", "dim"))
