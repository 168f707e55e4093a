"""The whole service in five lines, for narrow or low screens."""

from __future__ import annotations

from llmtop.format import NONE, percent, short, size
from llmtop.viewmodel import View
from llmtop.widgets.devices import gpu_line, no_device
from llmtop.widgets.kvusage import KvUsage, kv_bar
from llmtop.widgets.nearness import nearness
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import unseen
from llmtop.widgets.rows import Row, first_that_fits, joined, joined_within, spread, width_of
from llmtop.widgets.service import batch, latency_line

_LABEL = 5


class Brief(Painted):
    DEFAULT_CSS = "Brief { height: 5; }"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        lead: Row = ((" ", "text"),)
        lines = (
            _flow(view, width - 1),
            batch(view, width - 1),
            _latencies(view, width - 1),
            _kv(view, width),
            _device(view, width - 1),
        )
        return [(*lead, *line) for line in lines]


def _flow(view: View, width: int) -> Row:
    flow = view.state.throughput
    per_s = flow.requests_per_s
    tokens: list[Row] = [
        (("generated ", "dim"), (short(flow.generated_per_s), "value")),
        (("prompt ", "dim"), (short(flow.prompt_per_s), "value")),
        (("cached ", "dim"), (short(flow.cached_per_s), "value"), (" tok/s", "dim")),
    ]
    requests: Row = ((NONE if per_s is None else f"{per_s:.1f}", "value"), (" req/s", "dim"))
    line = joined_within([joined(tokens), requests], width)
    windows = f"over {flow.token_window_s} s, latencies {view.state.latency.window_s} s "
    return spread(line, ((windows, "dim"),), width)


def _latencies(view: View, width: int) -> Row:
    lines = [
        joined([latency_line(view, name, least) for name in ("ttft", "itl")], "   ")
        for least in (False, True)
    ]
    return first_that_fits(lines, width)


def _kv(view: View, width: int) -> Row:
    pages = view.state.pages
    label = "kv".ljust(_LABEL)
    if view.state.upstream:
        return ((label, "dim"), (unseen(KvUsage.inside), "dim"))
    if not pages.num_pages:
        return ((label, "dim"), ("no pages yet", "dim"))
    used, cached, free = (
        percent(n, pages.num_pages) for n in (pages.used, pages.cached, pages.free)
    )
    tail: Row = (
        (f"  {used}", "value"),
        (" used ", "dim"),
        (cached, "value"),
        (" cached ", "dim"),
        (free, "value"),
        (" free", "dim"),
    )
    return ((label, "dim"), *kv_bar(pages, max(8, width - 2 - _LABEL - width_of(tail))), *tail)


def _device(view: View, width: int) -> Row:
    gpus, memory = view.state.gpus, view.state.memory
    if gpus.devices:
        return (("gpu".ljust(_LABEL), "dim"), *gpu_line(gpus.devices[min(gpus.devices)].last))
    if view.state.roofline.rates is not None:
        head: Row = (("gpu".ljust(_LABEL), "dim"), ("none   ", "value"))
        return (*head, *nearness(view, width - width_of(head)))
    held = memory.engine_bytes
    tail: list[Row] = [] if held is None else [((f"engine memory {size(held)}", "dim"),)]
    absent: Row = (("gpu".ljust(_LABEL), "dim"), *no_device(view))
    return joined_within([absent, *tail], width, "   ")
