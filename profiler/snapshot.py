"""One state as a document for scripts: fields that stay, each with its unit in its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from profiler.folds.quantiles import Quantiles
from profiler.kv_held import kv_held
from profiler.state import SessionState
from profiler.walltime import wall_ns_of

VERSION: Final = 1


class Requests(msgspec.Struct, frozen=True):
    """`running` and `waiting` are of now, the others since the session began; None is what nobody
    tells of another server, whose requests under way are all `running`."""

    running: int
    waiting: int | None
    finished: int
    failed: int
    rejected: int
    preemptions: int | None


class Rates(msgspec.Struct, frozen=True):
    """Tokens and steps over the newest `token_window_s` seconds, requests over `request_window_s`;
    None while there is less than a tenth of a second to divide by."""

    token_window_s: int
    request_window_s: int
    output_tokens_per_s: float | None
    prompt_tokens_per_s: float | None
    cached_tokens_per_s: float | None
    steps_per_s: float | None
    requests_per_s: float | None


class Latency(msgspec.Struct, frozen=True):
    """In ms over the newest `window_s` seconds; None of one in which nothing happened."""

    window_s: int
    ttft_ms: Quantiles | None
    itl_ms: Quantiles | None
    tpot_ms: Quantiles | None
    e2el_ms: Quantiles | None
    queue_ms: Quantiles | None
    prefill_ms: Quantiles | None


class Kv(msgspec.Struct, frozen=True):
    """Used, cached and free sum to all pages. The hit share is of prompt tokens, since the session
    began. `format` and what follows are None where full pages are not packed; `page_bytes` is
    what a packed page takes, a wide one `wide_page_bytes`."""

    pages: int
    pages_used: int
    pages_cached: int
    pages_free: int
    block_size: int
    page_bytes: int
    hit_share: float | None
    format: str | None = None
    wide_page_bytes: int | None = None
    pages_packed: int | None = None
    pages_hot: int | None = None
    pages_sink: int | None = None
    effective_bits: float | None = None


class Gpu(msgspec.Struct, frozen=True):
    """The newest NVML reading of one device."""

    device: int
    name: str
    mem_used_bytes: int
    mem_total_bytes: int
    util_pct: float | None
    power_w: float | None
    temp_c: float | None
    throttle: str | None


class Snapshot(msgspec.Struct, frozen=True):
    """`wall_ns` is Unix time and None before the session began; `kv` too. `memory_bytes` has the
    parts that the engine knows, `phase` is "" before the first."""

    version: int
    t_ns: int
    wall_ns: int | None
    uptime_s: float | None
    phase: str
    model: str | None
    device: str | None
    requests: Requests
    rates: Rates
    latency: Latency
    kv: Kv | None
    memory_bytes: dict[str, int]
    gpus: list[Gpu]
    events_lost: int


def snapshot(state: SessionState) -> Snapshot:
    """What is known at the state's instant."""
    session = state.session
    age_ns = None if session is None else state.t_ns - session.t_ns
    return Snapshot(
        version=VERSION,
        t_ns=state.t_ns,
        wall_ns=wall_ns_of(state, state.t_ns),
        uptime_s=None if age_ns is None else age_ns / 1e9,
        phase="" if state.phase is None else state.phase.name,
        model=None if session is None else session.model or None,
        device=None if session is None else session.device or None,
        requests=_requests(state),
        rates=_rates(state),
        latency=_latency(state),
        kv=_kv(state),
        memory_bytes=dict(state.memory.parts()),
        gpus=_gpus(state),
        events_lost=state.drops,
    )


def flattened(found: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    """Every field by its path, "latency.ttft_ms.p95", and its value; None is "not known"."""
    yield from _flat("", msgspec.to_builtins(found))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = dict(enumerate(value)).items()
    else:
        yield path, value
        return
    for name, inner in items:
        yield from _flat(f"{path}.{name}" if path else str(name), inner)


def _requests(state: SessionState) -> Requests:
    requests = state.requests
    return Requests(
        running=requests.num_running,
        waiting=None if state.upstream else requests.num_waiting,
        finished=requests.num_finished,
        failed=requests.num_aborted,
        rejected=requests.num_rejected,
        preemptions=None if state.upstream else requests.num_preemptions,
    )


def _rates(state: SessionState) -> Rates:
    flow = state.throughput
    return Rates(
        token_window_s=flow.token_window_s,
        request_window_s=flow.request_window_s,
        output_tokens_per_s=flow.generated_per_s,
        prompt_tokens_per_s=flow.prompt_per_s,
        cached_tokens_per_s=flow.cached_per_s,
        steps_per_s=flow.steps_per_s,
        requests_per_s=flow.requests_per_s,
    )


def _latency(state: SessionState) -> Latency:
    names = state.latency.windows
    in_ms = {f"{name}_ms": _in_ms(state.latency.quantiles(name)) for name in names}
    return Latency(window_s=state.latency.window_s, **in_ms)


def _in_ms(found: Quantiles | None) -> Quantiles | None:
    if found is None:
        return None
    values = {
        name: None if value is None else value / 1e6
        for name, value in msgspec.structs.asdict(found).items()
        if name != "n"
    }
    return msgspec.convert({"n": found.n, **values}, Quantiles)


def _kv(state: SessionState) -> Kv | None:
    session, pages = state.session, state.pages
    if session is None or session.upstream:
        return None
    packing, forms, held = session.packing, pages.forms, kv_held(session, pages)
    packed = packing is not None
    return Kv(
        pages=pages.num_pages,
        pages_used=pages.used,
        pages_cached=pages.cached,
        pages_free=pages.free,
        block_size=session.block_size,
        page_bytes=session.page_bytes,
        hit_share=pages.hit_tokens / pages.query_tokens if pages.query_tokens else None,
        format=packing.name if packing else None,
        wide_page_bytes=packing.wide_page_bytes if packing else None,
        pages_packed=forms.packed if packed else None,
        pages_hot=forms.hot if packed else None,
        pages_sink=forms.sinks if packed else None,
        effective_bits=None if held is None else held.bits,
    )


def _gpus(state: SessionState) -> list[Gpu]:
    newest = (history.last for history in state.gpus.devices.values())
    return [msgspec.convert(sample, Gpu, from_attributes=True) for sample in newest]
