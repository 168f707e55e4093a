"""One reading of a page: which engine it is of, and what it says in our names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from statistics import fmean
from typing import Final

from profiler.events import Buckets, MetricsSample
from profiler.foreign.documents import is_document, told_by
from profiler.foreign.names import BY_NAME, ENGINES, NIM, Engine, Metric
from profiler.foreign.page import Page, PageReader, Sample, names_of

_NIM_SIGNS: Final = {"num_requests_running", "gpu_cache_usage_perc"}
_CAPACITY: Final = "cache_config_info"
_CAPACITY_LABELS: Final = {"kv_tokens": "kv_cache_size_tokens", "kv_blocks": "num_gpu_blocks"}
_RANKS: Final = {"tp_rank", "pp_rank", "moe_ep_rank", "pid"}
_TOGETHER: Final[dict[str, Callable[[list[float]], float]]] = {
    "sum": sum,
    "max": max,
    "mean": fmean,
}
_PARTS: Final = ("_bucket", "_count", "_sum")


def engine_of(text: str) -> Engine | None:
    """Whose page it is, by its names' beginnings; None if of none that we know."""
    names = names_of(text)
    for engine in ENGINES:
        if any(name.startswith(engine.prefix) for name in names):
            return engine
    return NIM if names >= _NIM_SIGNS else None


def is_of(text: str, engine: Engine) -> bool:
    """Whether the page is still this engine's: cheaper than to ask whose it is."""
    if is_document(engine):
        return text.lstrip()[:1] in ("{", "[")
    return text.startswith(engine.prefix) or f"\n{engine.prefix}" in text


class Reader:
    """Reads page after page of one server of this kind."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pages = PageReader(engine.prefix, names_read(engine))

    def read(self, text: str, t_ns: int) -> MetricsSample:
        """What the page tells at `t_ns`. Raises: StreamError for a document of another kind."""
        engine = self._engine
        if is_document(engine):
            told = told_by(text, engine)
            return MetricsSample(t_ns, engine.name, told.model, told.gauges, {}, {})
        page = _without_phantoms(self._pages.read(text))
        gauges = _values(page, engine.gauges) | _capacity(page, engine)
        histograms = {
            key: found
            for key, metric in engine.histograms.items()
            if (found := _histogram(page, metric)) is not None
        }
        counters = _values(page, engine.counters)
        return MetricsSample(t_ns, engine.name, _model(page, engine), gauges, counters, histograms)


def read(text: str, engine: Engine, t_ns: int) -> MetricsSample:
    """What one page alone tells. Raises: StreamError for a document of another kind."""
    return Reader(engine).read(text, t_ns)


def page_of(text: str, engine: Engine) -> Page:
    """The samples that are read of a page of this engine."""
    return _without_phantoms(PageReader(engine.prefix, names_read(engine)).read(text))


def known(sample: MetricsSample) -> Engine:
    """Raises: KeyError for an engine that this version does not know."""
    return BY_NAME[sample.engine]


@cache
def names_read(engine: Engine) -> set[str]:
    """All names that a page of this engine is looked through for."""
    plain = [m for table in (engine.gauges, engine.counters) for m in table.values()]
    names = {name for metric in plain for name in metric.names}
    for metric in engine.histograms.values():
        names |= {name + part for name in metric.names for part in _PARTS}
    return names | {engine.prefix + _CAPACITY}


def _values(page: Page, metrics: dict[str, Metric]) -> dict[str, float]:
    found = ((key, _value(page, metric)) for key, metric in metrics.items())
    return {key: value for key, value in found if value is not None}


def _value(page: Page, metric: Metric) -> float | None:
    name = name_in(page, metric)
    if name is None:
        return None
    samples = _where(page.samples[name], metric)
    return _TOGETHER[metric.how](_distinct(samples)) * metric.scale


def name_in(page: Page, metric: Metric, part: str = "") -> str | None:
    """Which of its names the page has samples of; `part` is what a histogram puts behind them."""
    names = (name + part for name in metric.names)
    return next((name for name in names if _where(page.samples.get(name, ()), metric)), None)


def _where(samples: Iterable[Sample], metric: Metric) -> list[Sample]:
    return [
        sample
        for sample in samples
        if all(sample.labels.get(label) == value for label, value in metric.where)
    ]


def _distinct(samples: list[Sample]) -> list[float]:
    """One value for each that is another's: the ranks of one model say the same, and an empty
    priority is the sum of the others."""
    whole = [sample for sample in samples if sample.labels.get("priority") == ""]
    groups: dict[frozenset[tuple[str, str]], float] = {}
    for sample in whole or samples:
        group = frozenset(pair for pair in sample.labels.items() if pair[0] not in _RANKS)
        groups[group] = max(sample.value, groups.get(group, sample.value))
    return list(groups.values())


def _without_phantoms(page: Page) -> Page:
    """vLLM's replicas each print the others' gauges as 0; one that is there has histograms."""
    real = {
        sample.labels.get("engine")
        for name, samples in page.samples.items()
        if name.endswith("_bucket")
        for sample in samples
    }
    if not real - {None}:
        return page
    kept = {
        name: [sample for sample in samples if sample.labels.get("engine") in {None, *real}]
        for name, samples in page.samples.items()
    }
    return page._replace(samples={name: samples for name, samples in kept.items() if samples})


def _histogram(page: Page, metric: Metric) -> Buckets | None:
    """All label sets summed, edge by edge; edges are always those of the page."""
    for name in metric.names:
        buckets = page.samples.get(name + "_bucket")
        if not buckets:
            continue
        counts: dict[float, float] = {}
        for sample in buckets:
            edge = _edge(sample)
            if edge is not None:
                counts[edge] = counts.get(edge, 0.0) + sample.value
        edges = sorted(edge for edge in counts if edge != float("inf"))
        total = counts.get(float("inf"), _total(page, name + "_count"))
        sum_s = _total(page, name + "_sum") * metric.scale
        at_most = tuple(counts[edge] for edge in edges)
        return Buckets(tuple(edge * metric.scale for edge in edges), at_most, total, sum_s)
    return None


def _edge(sample: Sample) -> float | None:
    try:
        return float(sample.labels["le"])
    except (KeyError, ValueError):
        return None


def _total(page: Page, name: str) -> float:
    return sum(sample.value for sample in page.samples.get(name, ()))


def _capacity(page: Page, engine: Engine) -> dict[str, float]:
    """The KV cache's tokens and blocks, which vLLM tells as labels: blocks times their size are too
    many tokens in hybrid models."""
    infos = page.samples.get(engine.prefix + _CAPACITY, ())
    found = {}
    for key, label in _CAPACITY_LABELS.items():
        texts = [info.labels.get(label, "") for info in infos]
        total = sum(float(text) for text in texts if text.isdecimal())
        if total:
            found[key] = total
    return found


def _model(page: Page, engine: Engine) -> str:
    """What the labels call it; "" where no sample names it."""
    for samples in page.samples.values():
        for label in engine.model_labels:
            if name := samples[0].labels.get(label):
                return name
    return ""
