"""The numbers of a whole load run. Every definition is in docs/numbers.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from llmtop.load.result import RequestResult
from llmtop.load.spec import LoadSpec, Objectives
from profiler.folds.quantiles import Quantiles
from profiler.metrics import Values, of_quantiles

NS_PER_MS: Final = 1e6
NS_PER_S: Final = 1e9
LEAST_STEADY: Final = 0.25


class Latencies(msgspec.Struct, frozen=True):
    """In ms. `itl_ms` is weighted per token, `icl_ms` per chunk, the others per request."""

    ttft_ms: Quantiles | None
    tpot_ms: Quantiles | None
    itl_ms: Quantiles | None
    icl_ms: Quantiles | None
    e2el_ms: Quantiles | None
    client_queue_ms: Quantiles | None


class Throughput(msgspec.Struct, frozen=True):
    """Rates over `duration_s`."""

    duration_s: float
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float


class Goodput(msgspec.Struct, frozen=True):
    """Requests that met every objective; a failed request met none of them.

    `missed` counts, per objective, the answers that did not meet it.
    """

    requests_per_s: float
    share: float
    missed: dict[str, int]


class LoadReport(msgspec.Struct, frozen=True):
    """`num_ok` answers and `num_failed` failures were measured; the warm-up is in neither.

    `num_cancelled` requests were under way when the run was stopped. `throughput` spans the first
    send to the end of the last answer; `steady_output_tokens_per_s` the time from the first
    finished answer to the last send, when no stream idles, None if not much lies between or if
    there were streams that brought no answer.
    `itl_per_token` says whether every chunk's number of tokens was known.
    """

    spec: LoadSpec
    model: str
    num_ok: int
    num_failed: int
    num_warmup: int
    num_cancelled: int
    num_resent: int
    errors: dict[str, int]
    usage: bool
    itl_per_token: bool
    prompt_lengths: str
    num_prompt_tokens: int
    num_cached_tokens: int | None
    num_output_tokens: int
    mean_concurrency: float
    latencies: Latencies
    throughput: Throughput | None
    steady_output_tokens_per_s: float | None
    goodput: Goodput | None
    loop_lag_p99_ms: float | None


class RunFacts(msgspec.Struct, frozen=True):
    """What a report needs beside the results."""

    model: str
    prompt_lengths: str
    num_cancelled: int
    loop_lags_ms: Sequence[float]


def make_report(spec: LoadSpec, results: Iterable[RequestResult], facts: RunFacts) -> LoadReport:
    """The report of `results`, in any order; it holds the spec without its key."""
    everything = list(results)
    measured = [r for r in everything if not r.warmup]
    answers = [r for r in measured if r.ok]
    cached = [r.num_cached_tokens for r in answers if r.num_cached_tokens is not None]
    lag = Quantiles.of(facts.loop_lags_ms)
    whole = throughput(answers)
    return LoadReport(
        spec=msgspec.structs.replace(spec, api_key=None),
        model=facts.model,
        num_ok=len(answers),
        num_failed=len(measured) - len(answers),
        num_warmup=len(everything) - len(measured),
        num_cancelled=facts.num_cancelled,
        num_resent=sum(r.resent for r in measured),
        errors=dict(Counter(r.error for r in measured if not r.ok).most_common()),
        usage=all(r.usage for r in answers),
        itl_per_token=all(r.chunks_counted for r in answers),
        prompt_lengths=facts.prompt_lengths,
        num_prompt_tokens=sum(r.num_prompt_tokens for r in answers),
        num_cached_tokens=sum(cached) if cached else None,
        num_output_tokens=sum(r.num_output_tokens for r in answers),
        mean_concurrency=mean_concurrency(answers),
        latencies=latencies(answers),
        throughput=whole,
        # Of streams that failed or were cancelled the tokens are not known to be all there.
        steady_output_tokens_per_s=None
        if facts.num_cancelled or len(answers) < len(measured)
        else steady_rate(answers),
        goodput=goodput(spec.objectives, measured, whole) if spec.objectives else None,
        loop_lag_p99_ms=(lag.max if lag.p99 is None else lag.p99) if lag else None,
    )


def _quantiles_ms(values_ns: Iterable[float | None]) -> Quantiles | None:
    return Quantiles.of([v / NS_PER_MS for v in values_ns if v is not None])


def report_values(report: LoadReport) -> Values:
    """The run's numbers by metric name; those that only an engine knows are not there."""
    rates, goods, spans = report.throughput, report.goodput, report.latencies
    ended = report.num_ok + report.num_failed
    values: dict[str, float | None] = {
        "tok_s": rates.output_tokens_per_s if rates else None,
        "prompt_tok_s": rates.prompt_tokens_per_s if rates else None,
        "req_s": rates.requests_per_s if rates else None,
        "good_pct": 100 * goods.share if goods else None,
        "failed_pct": 100 * report.num_failed / ended if ended else None,
    }
    if report.num_cached_tokens is not None and report.num_prompt_tokens:
        values["cached_pct"] = 100 * report.num_cached_tokens / report.num_prompt_tokens
    for name in ("ttft", "tpot", "itl", "icl", "e2el", "client_queue"):
        values |= of_quantiles(name, getattr(spans, f"{name}_ms"))
    return values


def latencies(answers: Sequence[RequestResult]) -> Latencies:
    """The latencies of requests that were answered."""
    return Latencies(
        ttft_ms=_quantiles_ms(r.ttft_ns for r in answers),
        tpot_ms=_quantiles_ms(r.tpot_ns for r in answers),
        itl_ms=_quantiles_ms(itl for r in answers for itl in r.itl_ns),
        icl_ms=_quantiles_ms(icl for r in answers for icl in r.icl_ns),
        e2el_ms=_quantiles_ms(r.e2el_ns for r in answers),
        client_queue_ms=_quantiles_ms(r.client_queue_ns for r in answers),
    )


def throughput(answers: Sequence[RequestResult]) -> Throughput | None:
    """Rates from the first send to the end of the last answer; None without an answer."""
    if not answers:
        return None
    span_ns = max(r.t_done_ns for r in answers) - min(r.t_send_ns for r in answers)
    duration_s = max(span_ns, 1) / NS_PER_S
    return Throughput(
        duration_s=duration_s,
        requests_per_s=len(answers) / duration_s,
        prompt_tokens_per_s=sum(r.num_prompt_tokens for r in answers) / duration_s,
        output_tokens_per_s=sum(r.num_output_tokens for r in answers) / duration_s,
    )


def steady_rate(answers: Sequence[RequestResult]) -> float | None:
    """Output tokens per second between the first finished answer and the last send, None where that
    is less than a quarter of the whole time: it would be of a few chunks."""
    whole = throughput(answers)
    if whole is None:
        return None
    begin_ns = min(r.t_done_ns for r in answers)
    end_ns = max(r.t_send_ns for r in answers)
    if end_ns - begin_ns < LEAST_STEADY * whole.duration_s * NS_PER_S:
        return None
    chunks = (chunk for r in answers for chunk in r.chunks)
    num_tokens = sum(c.num_tokens for c in chunks if begin_ns < c.t_ns <= end_ns)
    return num_tokens * NS_PER_S / (end_ns - begin_ns)


def mean_concurrency(answers: Sequence[RequestResult]) -> float:
    """The mean number of answers under way: the sum of their E2EL over the duration."""
    whole = throughput(answers)
    if whole is None:
        return 0.0
    return sum(r.e2el_ns or 0 for r in answers) / NS_PER_S / whole.duration_s


def goodput(
    objectives: Objectives, measured: Sequence[RequestResult], whole: Throughput | None
) -> Goodput:
    """How many requests were as quick as wanted. A latency that does not exist misses nothing."""
    limits = msgspec.structs.asdict(objectives)
    missed = {name: 0 for name, limit in limits.items() if limit is not None}
    num_good = 0
    for result in measured:
        late = [name for name in missed if _exceeds(result, name, limits[name])]
        for name in late:
            missed[name] += 1
        num_good += result.ok and not late
    return Goodput(
        requests_per_s=num_good / whole.duration_s if whole else 0.0,
        share=num_good / len(measured) if measured else 0.0,
        missed=missed,
    )


def _exceeds(result: RequestResult, name: str, limit_ms: float) -> bool:
    value_ns = getattr(result, f"{name}_ns")
    return value_ns is not None and value_ns / NS_PER_MS > limit_ms
