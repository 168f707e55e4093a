"""How much is served and how fast: rates, the batch, and latencies with their definitions."""

from __future__ import annotations

from typing import Final

from llmtop.format import NONE, grouped, milliseconds_within, ns_as_ms, short
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span, first_that_fits, joined
from profiler.folds.latency import WINDOW_S
from profiler.folds.quantiles import Quantiles
from profiler.folds.throughput import TOKEN_WINDOW_S

_LATENCIES: Final = (
    ("ttft", "queued → first token"),
    ("itl", "token → next token"),
    ("e2el", "queued → last token"),
    ("queue", "queued → first prefill"),
    ("tpot", "mean itl of a request"),
)
_NAME_WIDTH: Final = 6
_COLUMN_WIDTH: Final = 7


class Service(Panel):
    about = (
        "How fast requests are served: tokens and requests a second, how many run and wait, and "
        "the quantiles of each latency in ms."
    )

    def title(self, view: View) -> Row:
        return (("Service", "title"),)

    def note(self, view: View) -> str:
        return f"tok/s over {TOKEN_WINDOW_S} s, latencies over {WINDOW_S} s"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        rows = [rates(view), batch(view, width), _head()]
        for name, meaning in _LATENCIES[: max(0, height - 3)]:
            rows.append(_latency(name, meaning, view.state.latency.quantiles(name)))
        return rows[:height]


def rates(view: View) -> Row:
    """Tokens per second in, out of the cache, and out; requests per second."""
    flow = view.state.throughput
    per_s = flow.requests_per_s
    return joined(
        (
            _rate("generated", flow.generated_per_s),
            _rate("prompt", flow.prompt_per_s),
            (*_rate("from cache", flow.cached_per_s), (" tok/s", "dim")),
            ((NONE if per_s is None else f"{per_s:.1f}", "value"), (" req/s", "dim")),
        ),
        "   ",
    )


def _rate(name: str, value: float | None) -> Row:
    return ((f"{name} ", "dim"), (short(value), "value"))


def batch(view: View, width: int) -> Row:
    """Requests by what they do now, then by how they ended; of what is none, less where `width`
    does not hold it all."""
    requests = view.state.requests
    failed = requests.num_aborted + requests.num_rejected
    under_way = ("under way", len(requests.live), "decode")
    ended = (
        ("done", requests.num_finished, "value"),
        ("failed", failed, "bad" if failed else "value"),
    )
    inside = (
        ("running", requests.num_running, "decode"),
        ("prefill", requests.num_prefilling, "prefill"),
        ("waiting", requests.num_waiting, "queued"),
        *ended,
        ("preempted", requests.num_preemptions, "value"),
    )
    parts = (under_way, *ended) if view.state.upstream else inside
    some = tuple(part for part in parts if part[1] or part is parts[0])
    looks = ((parts, "  "), (parts, " "), (some, "  "), (some, " "))
    lines = [joined([_count(*part) for part in chosen], gap) for chosen, gap in looks]
    return first_that_fits(lines, width)


def _count(name: str, value: int, role: str) -> Row:
    return (
        (f"{name} ", "dim"),
        (short(value) if value > 99_999 else grouped(value), role if value else "value"),
    )


def _head() -> Row:
    names = "".join(word.rjust(_COLUMN_WIDTH) for word in ("n", "p50", "p95", "p99", "max"))
    return (("ms".ljust(_NAME_WIDTH) + names, "dim"),)


def _latency(name: str, meaning: str, found: Quantiles | None) -> Row:
    spans: list[Span] = [(name.ljust(_NAME_WIDTH), "text")]
    if found is None:
        spans.append((NONE.rjust(_COLUMN_WIDTH) * 5, "dim"))
    else:
        spans.append((short(found.n).rjust(_COLUMN_WIDTH), "dim"))
        for value in (found.p50, found.p95, found.p99, found.max):
            text = milliseconds_within(None if value is None else value / 1e6, _COLUMN_WIDTH - 1)
            spans.append((text.rjust(_COLUMN_WIDTH), "value"))
    return (*spans, (f"  {meaning}", "dim"))


def latency_line(view: View, name: str, least: bool = False) -> Row:
    """One latency on a narrow screen: ttft p50 84 p95 212 p99 431 ms; `least` ends with p95."""
    found = view.state.latency.quantiles(name)
    if found is None:
        return ((f"{name} ", "text"), (f"{NONE} ms", "dim"))
    last = ("p99", found.p99) if found.p99 is not None else (f"max of {found.n}", found.max)
    told = (("p50", found.p50), ("p95", found.p95), last)
    spans: list[Span] = [(f"{name} ", "text")]
    for label, value in told[:2] if least else told:
        spans += [(f"{label} ", "dim"), (f"{ns_as_ms(round(value))} ", "value")]
    return (*spans, ("ms", "dim"))
