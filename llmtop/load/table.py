"""A load report as lines of plain text."""

from __future__ import annotations

from collections.abc import Iterator

from llmtop.load.report import LoadReport
from llmtop.load.spec import LoadSpec
from llmtop.sanitize import clean_line
from profiler.folds.quantiles import Quantiles

# Where the client's loop is this late, the latencies below are partly the client's own.
LATE_LOOP_MS = 5.0
# Beyond the shared prefix, and what a chat template puts before each prompt.
SENT_BEFORE = 0.5

LATENCY_NAMES = {
    "ttft_ms": "TTFT ms",
    "tpot_ms": "TPOT ms",
    "itl_ms": "ITL ms (per token)",
    "icl_ms": "ICL ms (per chunk)",
    "e2el_ms": "E2EL ms",
    "client_queue_ms": "client queue ms",
}


def table(report: LoadReport) -> str:
    """The report for a person; every line states what it counts."""
    return "\n".join(_lines(report))


def _lines(report: LoadReport) -> Iterator[str]:
    yield f"{clean_line(report.model)} at {report.spec.root_url}, {describe(report.spec)}"
    yield ""
    yield from _counts(report)
    yield from _rates(report)
    yield ""
    yield from _latencies(report)
    yield from _notes(report)


def describe(spec: LoadSpec) -> str:
    """The load in a few words."""
    if spec.rate_per_s is None:
        kind = f"closed loop of {spec.concurrency}"
    else:
        bound = f", at most {spec.concurrency} in flight" if spec.concurrency else ""
        kind = f"{spec.rate_per_s:g} requests/s (Poisson){bound}"
    lengths = f"{spec.prompt_tokens} tokens in, {spec.output_tokens} out"
    return f"{kind}, {lengths}, seed {spec.seed}"


def _counts(report: LoadReport) -> Iterator[str]:
    parts = [f"{report.num_ok} answered", f"{report.num_failed} failed"]
    if report.num_cancelled:
        parts.append(f"{report.num_cancelled} cancelled under way")
    if report.num_resent:
        parts.append(f"{report.num_resent} sent again")
    if report.num_warmup:
        parts.append(f"{report.num_warmup} of warm-up left out")
    yield f"requests     {', '.join(parts)}"
    for error, count in report.errors.items():
        yield f"  {count} x {clean_line(error)}"
    tokens = f"{report.num_prompt_tokens} prompt, {report.num_output_tokens} output"
    if report.num_cached_tokens is not None:
        tokens += f", {report.num_cached_tokens} of the prompt out of the cache"
    yield f"tokens       {tokens}"


def _rates(report: LoadReport) -> Iterator[str]:
    rates = report.throughput
    if rates is None:
        return
    yield (
        f"throughput   {rates.output_tokens_per_s:.1f} output tok/s, "
        f"{rates.prompt_tokens_per_s:.1f} prompt tok/s, {rates.requests_per_s:.2f} requests/s "
        f"over {rates.duration_s:.2f} s"
    )
    steady = report.steady_output_tokens_per_s
    if steady is not None:
        yield f"steady       {steady:.1f} output tok/s between the first answer and the last send"
    yield f"concurrency  {report.mean_concurrency:.2f} on average"
    if report.goodput is not None:
        missed = ", ".join(f"{name} missed {n}" for name, n in report.goodput.missed.items())
        yield (
            f"goodput      {report.goodput.requests_per_s:.2f} requests/s, "
            f"{100 * report.goodput.share:.1f} % of requests ({missed})"
        )


def _latencies(report: LoadReport) -> Iterator[str]:
    columns = "".join(f"{name:>10}" for name in ("n", "mean", "p50", "p90", "p95", "p99", "max"))
    yield f"{'':<19}{columns}"
    for field, name in LATENCY_NAMES.items():
        values: Quantiles | None = getattr(report.latencies, field)
        yield f"{name:<19}{_row(values)}"


def _row(values: Quantiles | None) -> str:
    if values is None:
        return f"{0:>10}" + f"{'--':>10}" * 6
    numbers = (values.mean, values.p50, values.p90, values.p95, values.p99, values.max)
    cells = (f"{'--':>10}" if v is None else f"{v:>10.2f}" for v in numbers)
    return f"{values.n:>10}{''.join(cells)}"


def _notes(report: LoadReport) -> Iterator[str]:
    yield ""
    yield f"prompt lengths are in {report.prompt_lengths}"
    known = (report.num_cached_tokens or 0) - report.num_ok * report.spec.shared_prefix_tokens
    if known > SENT_BEFORE * report.num_prompt_tokens:
        yield (
            "the server knew much of these prompts, as after a run with the same seed: "
            "another --seed sends new ones"
        )
    if any(v and v.p99 is None for v in _quantiles(report)):
        yield "p99 needs 100 values; below that, see max"
    if not report.usage:
        yield "the server sends no usage: a chunk counts as a token"
    elif not report.itl_per_token:
        yield "some chunks held several tokens of unknown number: ITL counts each as one"
    lag = report.loop_lag_p99_ms
    if lag is not None:
        late = "; the client itself was slow, latencies are too high" if lag > LATE_LOOP_MS else ""
        yield f"this client's event loop was {lag:.2f} ms late at p99{late}"


def _quantiles(report: LoadReport) -> list[Quantiles | None]:
    return [getattr(report.latencies, field) for field in LATENCY_NAMES]
