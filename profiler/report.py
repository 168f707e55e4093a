"""What a whole session came to: the numbers that a person passes on.

Everything is over the session, from its first event to its last. None is "not known" and never 0.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from profiler.events import SessionStart
from profiler.folds.quantiles import Quantiles
from profiler.session.opening import damaged
from profiler.session.packed_gaps import gaps_us
from profiler.session.reader import SessionReader

NUM_SLOWEST: Final = 5
NUM_WARNINGS: Final = 5
_NS_PER_MS: Final = 1e6

LATENCIES: Final = {
    "ttft": ("TTFT", "queued to the end of the step of the first token, per request"),
    "itl": ("ITL", "gap between the ends of the steps of neighbouring tokens, per token"),
    "tpot": ("TPOT", "(E2EL - TTFT) / (tokens - 1), per finished request of 2 tokens or more"),
    "e2el": (
        "E2EL",
        "queued to the end of the step of the last token, per finished request",
    ),
    "queue": ("queue", "queued to the start of the first prefill step, per request"),
    "prefill": ("prefill", "from there to the first token, per request"),
}
"""Name to title and definition. Requests that had not ended with the session are in none."""

RECEIVED_LATENCIES: Final = {
    "ttft": ("TTFT", "arrival to the first piece of the answer with tokens, per request"),
    "itl": ("ITL", "gap between such pieces; one of k tokens gives k values of gap / k"),
    "tpot": LATENCIES["tpot"],
    "e2el": ("E2EL", "arrival to the last piece with tokens, per finished request"),
}
"""The same of what a proxy sees."""


class EndedRequest(msgspec.Struct, frozen=True):
    """Times in ms. `finished` is False where it ended without an answer."""

    request: int
    name: str
    num_prompt_tokens: int | None
    cached_tokens: int | None
    num_output_tokens: int
    end: str
    preemptions: int
    finished: bool
    queue_ms: float | None
    prefill_ms: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    e2el_ms: float | None


class Work(msgspec.Struct, frozen=True):
    """What was asked for and what came of it. `inherited` were under way when a viewer began to
    keep the session, `unfinished` when it ended; `told` of those that ended have a row in the
    session's table of requests, which quantiles are from. Preemptions, None through a
    proxy, cost `lost_tokens`; `found_again_tokens` of them were still in the prefix cache when
    their request came back. `cached_share` is of the prompts of requests that ended and of which it
    was told."""

    queued: int
    inherited: int
    finished: int
    failed: int
    rejected: int
    unfinished: int
    told: int
    preemptions: int | None
    lost_tokens: int
    found_again_tokens: int
    prompt_tokens: Quantiles | None
    output_tokens: Quantiles | None
    cached_share: float | None
    max_running: int | None
    max_waiting: int | None


class Flow(msgspec.Struct, frozen=True):
    """Between the start of the first step and the end of the last; through a proxy, which sees no
    steps, between the arrival of the first request and the end of the last. Idle time is included.
    The device's share is None where steps do not tell their device time."""

    span_s: float
    new_tokens: int
    output_tokens_per_s: float
    requests_per_s: float
    steps: int | None = None
    busy_share: float | None = None
    device_share: float | None = None
    mean_step_ms: float | None = None
    prefill_tokens: int | None = None
    prefill_tokens_per_s: float | None = None


class KvUse(msgspec.Struct, frozen=True):
    """Pages at the ends of steps; `mean_used` weighs steps by their length. `format` and what
    follows are None where full pages are not packed."""

    num_pages: int
    block_size: int
    page_bytes: int
    max_used: int
    mean_used: float
    max_cached: int
    format: str | None = None
    max_wide: int | None = None
    num_wide_pages: int | None = None
    packed_pages: int | None = None


class Device(msgspec.Struct, frozen=True):
    """One GPU over the session's samples."""

    device: int
    name: str
    samples: int
    mem_total_bytes: int
    max_mem_used_bytes: int
    mean_util_pct: float | None
    mean_power_w: float | None
    max_temp_c: float | None
    energy_j: float | None


class SessionReport(msgspec.Struct, frozen=True):
    """`start` is None in a file whose server never got as far; `facts` are the recorder's own."""

    file: str
    wall_ns: int
    duration_s: float
    clean_end: bool
    events_lost: int
    facts: dict[str, str]
    start: SessionStart | None
    work: Work
    latencies: dict[str, Quantiles | None]
    flow: Flow | None
    kv: KvUse | None
    devices: list[Device]
    slowest_first: list[EndedRequest]
    slowest_end: list[EndedRequest]
    num_warnings: int
    warnings: list[str]

    @property
    def tells_steps(self) -> bool:
        """Not through a proxy, from where neither steps nor pages are seen."""
        return self.start is None or not self.start.upstream

    @property
    def joules_per_token(self) -> float | None:
        """Energy of all devices per output token; None if one of them does not tell."""
        energies = [device.energy_j for device in self.devices]
        known = [energy for energy in energies if energy is not None]
        if not known or len(known) < len(energies) or self.flow is None:
            return None
        return sum(known) / self.flow.new_tokens if self.flow.new_tokens else None


def report_of(reader: SessionReader) -> SessionReport:
    """Raises: SessionFileError where the file is damaged."""
    ended = _ended(reader)
    (lost,) = _one(reader, "SELECT coalesce(sum(count), 0) FROM dropped")
    told = "FROM log WHERE level IN ('warning', 'error')"
    (num_warnings,) = _one(reader, f"SELECT count(*) {told}")
    warnings = reader.query(
        f"SELECT level || ': ' || text {told} ORDER BY seq LIMIT {NUM_WARNINGS}"
    )
    start = reader.session
    tells_steps = start is None or not start.upstream
    work = _work(reader, ended, tells_steps)
    return SessionReport(
        file=reader.path.name,
        wall_ns=reader.wall_ns,
        duration_s=(reader.end_ns - reader.start_ns) / 1e9,
        clean_end=reader.clean_end,
        events_lost=lost,
        facts=reader.facts,
        start=start,
        work=work,
        latencies=_latencies(reader, ended),
        flow=(_flow if tells_steps else _received)(reader, work.finished),
        kv=None if start is None else _kv(reader, start),
        devices=_devices(reader),
        slowest_first=_slowest(ended, "ttft_ms"),
        slowest_end=_slowest(ended, "e2el_ms"),
        num_warnings=num_warnings,
        warnings=[str(text) for (text,) in warnings],
    )


def _one(reader: SessionReader, sql: str) -> Any:
    (row,) = reader.query(sql)
    return row


# A recording that a viewer kept also has rows of requests that had ended before it began.
_WITHIN: Final = (
    "WHERE request IN (SELECT request FROM request_finished UNION ALL"
    " SELECT request FROM request_aborted)"
)
_ENDED: Final = f"""
SELECT request, name, num_prompt_tokens, cached_tokens, num_output_tokens, finish_reason,
    preemptions, request IN (SELECT request FROM request_finished),
    t_queued_ns, t_scheduled_ns, t_first_ns, t_last_ns
FROM request {_WITHIN} ORDER BY request
"""


def _ended(reader: SessionReader) -> list[EndedRequest]:
    return [_ended_request(row) for row in reader.query(_ENDED)]


def _ended_request(row: tuple[Any, ...]) -> EndedRequest:
    request, name, prompt, cached, output, end, preemptions, finished = row[:8]
    queued_ns, scheduled_ns, first_ns, last_ns = row[8:]
    e2el_ms = _ms_between(queued_ns, last_ns) if finished else None
    decode_ms = _ms_between(first_ns, last_ns) if finished and output > 1 else None
    return EndedRequest(
        request=request,
        name=name,
        num_prompt_tokens=prompt,
        cached_tokens=cached,
        num_output_tokens=output,
        end=end,
        preemptions=preemptions,
        finished=bool(finished),
        queue_ms=_ms_between(queued_ns, scheduled_ns),
        prefill_ms=_ms_between(scheduled_ns, first_ns),
        ttft_ms=_ms_between(queued_ns, first_ns),
        tpot_ms=None if decode_ms is None else decode_ms / (output - 1),
        e2el_ms=e2el_ms,
    )


def _ms_between(begin_ns: int | None, end_ns: int | None) -> float | None:
    return None if begin_ns is None or end_ns is None else (end_ns - begin_ns) / _NS_PER_MS


def _work(reader: SessionReader, ended: list[EndedRequest], tells_steps: bool) -> Work:
    finished, failed, rejected, preemptions, lost, found_again = _one(reader, _COUNTS)
    unfinished = len(reader.state_at(reader.end_ns).requests.live)
    max_running, max_waiting = _one(reader, "SELECT max(num_running), max(num_waiting) FROM step")
    told = [r for r in ended if r.cached_tokens is not None]
    if tells_steps:
        told = [request for request in told if request.queue_ms is not None]
    prompt = sum(request.num_prompt_tokens or 0 for request in told)
    return Work(
        queued=reader.num_requests,
        inherited=max(0, finished + failed + unfinished - reader.num_requests),
        finished=finished,
        failed=failed,
        rejected=rejected,
        unfinished=unfinished,
        told=len(ended),
        preemptions=preemptions if tells_steps else None,
        lost_tokens=lost,
        found_again_tokens=found_again,
        prompt_tokens=Quantiles.of([r.num_prompt_tokens for r in ended if r.num_prompt_tokens]),
        output_tokens=Quantiles.of([r.num_output_tokens for r in ended if r.finished]),
        cached_share=sum(r.cached_tokens or 0 for r in told) / prompt if prompt else None,
        max_running=max_running,
        max_waiting=max_waiting,
    )


_COUNTS: Final = """
SELECT (SELECT count(*) FROM request_finished), (SELECT count(*) FROM request_aborted),
    (SELECT count(*) FROM request_rejected), (SELECT count(*) FROM request_preempted),
    (SELECT coalesce(sum(lost_tokens), 0) FROM request_preempted),
    (SELECT coalesce(sum(min(lost_tokens, found)), 0) FROM (
        SELECT lost_tokens, (
            SELECT cached_tokens FROM request_scheduled AS back
            WHERE back.request = lost.request AND back.seq > lost.seq ORDER BY back.seq LIMIT 1
        ) AS found FROM request_preempted AS lost))
"""


def _latencies(reader: SessionReader, ended: list[EndedRequest]) -> dict[str, Quantiles | None]:
    """In ms, by the names of `LATENCIES`."""
    per_request = {
        name: Quantiles.of([v for r in ended if (v := getattr(r, f"{name}_ms")) is not None])
        for name in LATENCIES
        if name != "itl"
    }
    return {name: per_request.get(name) if name != "itl" else _itl(reader) for name in LATENCIES}


def _itl(reader: SessionReader) -> Quantiles | None:
    """Counted by microsecond, since an hour has millions of gaps and few different ones."""
    counts = gap_counts(reader)
    ordered = sorted(counts)
    return Quantiles.of_weighted([us / 1000 for us in ordered], [counts[us] for us in ordered])


def gap_counts(reader: SessionReader) -> Counter[int]:
    """How often each inter-token gap, in whole microseconds, was seen."""
    counts: Counter[int] = Counter()
    for (packed,) in reader.query(f"SELECT gaps_us FROM itl {_WITHIN}"):
        try:
            counts.update(gaps_us(packed))
        except ValueError as error:
            raise damaged(reader.path, error) from None
    return counts


def _flow(reader: SessionReader, num_finished: int) -> Flow | None:
    steps, begin_ns, end_ns, step_ns, busy_ns, device_ns, timed, prefill, new = _one(reader, _STEPS)
    if not steps or end_ns <= begin_ns:
        return None
    span_s = (end_ns - begin_ns) / 1e9
    return Flow(
        span_s=span_s,
        new_tokens=new,
        output_tokens_per_s=new / span_s,
        requests_per_s=num_finished / span_s,
        steps=steps,
        busy_share=busy_ns / (end_ns - begin_ns),
        device_share=device_ns / (end_ns - begin_ns) if timed == steps else None,
        mean_step_ms=step_ns / steps / _NS_PER_MS,
        prefill_tokens=prefill,
        prefill_tokens_per_s=prefill / span_s,
    )


def _received(reader: SessionReader, num_finished: int) -> Flow | None:
    begin_ns, end_ns, tokens = _one(
        reader,
        f"SELECT min(t_queued_ns), max(t_done_ns), sum(num_output_tokens) FROM request {_WITHIN}",
    )
    if begin_ns is None or end_ns <= begin_ns:
        return None
    span_s = (end_ns - begin_ns) / 1e9
    return Flow(span_s, tokens, tokens / span_s, num_finished / span_s)


# A step that was launched before the one before it ended is busy only from there on.
_STEPS: Final = """
SELECT count(*), min(t_ns), max(end_ns), sum(end_ns - t_ns),
    sum(max(0, end_ns - max(t_ns, before_ns))), sum(device_ns), count(device_ns),
    sum(prefill_tokens), sum(new_tokens)
FROM (SELECT *, coalesce(max(end_ns) OVER (ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING
    AND 1 PRECEDING), 0) AS before_ns FROM step)
"""


def _kv(reader: SessionReader, start: SessionStart) -> KvUse | None:
    max_used, mean_used, max_cached = _one(
        reader,
        "SELECT max(pages_used), total(1.0 * pages_used * (end_ns - t_ns)) / total(end_ns - t_ns),"
        " max(pages_cached) FROM step",
    )
    if max_used is None:
        return None
    use = KvUse(
        start.num_pages, start.block_size, start.page_bytes, max_used, mean_used, max_cached
    )
    packing = start.packing
    if packing is None:
        return use
    max_wide, packed = _one(reader, "SELECT max(pages_wide), sum(packed_pages) FROM step")
    return msgspec.structs.replace(
        use,
        format=packing.name,
        max_wide=max_wide,
        num_wide_pages=packing.num_wide_pages,
        packed_pages=packed,
    )


def _devices(reader: SessionReader) -> list[Device]:
    rows = reader.query(
        "SELECT device, max(name), count(*), max(mem_total_bytes), max(mem_used_bytes),"
        " avg(util_pct), avg(power_w), max(temp_c),"
        " CASE WHEN count(energy_mj) > 1 THEN (max(energy_mj) - min(energy_mj)) / 1000.0 END"
        " FROM gpu_sample GROUP BY device ORDER BY device"
    )
    return [Device(*row) for row in rows]


def _slowest(ended: list[EndedRequest], field: str) -> list[EndedRequest]:
    known = [request for request in ended if getattr(request, field) is not None]
    known.sort(key=lambda request: getattr(request, field), reverse=True)
    return known[:NUM_SLOWEST]
