"""What a run was asked to do, and whether another was asked the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from profiler.compare.alignment import Alignment
from profiler.compare.run import Requests, Run
from profiler.folds.quantiles import Quantiles

# Two-sample Kolmogorov-Smirnov at 1 %: 1.63 times this root is exceeded by chance once in 100.
# Source: Smirnov (1948), Table for estimating the goodness of fit of empirical distributions.
_KS: Final = 1.63
# A gap between two distributions below a tenth changes no latency that anybody would notice.
_LEAST_GAP: Final = 0.1
_MOST_GAP: Final = 0.9
_RATE_TOLERANCE: Final = 0.1


class Workload(msgspec.Struct, frozen=True):
    """Of the requests that ended. `shapes` is a hash over prompt and asked output tokens of all of
    them, in any order. `arrivals_per_s` runs from the first to the last; `arrival_cv` is the
    deviation of the gaps between arrivals over their mean (1 for Poisson, 0 for a metronome), None
    below three. `peak` is the most that were in the engine at once.

    The seed of the load is the client's own, and no recording knows it.
    """

    requests: int
    shapes: str
    prompt_tokens: Quantiles | None
    asked_tokens: Quantiles | None
    output_tokens: Quantiles | None
    arrivals_per_s: float | None
    arrival_cv: float | None
    peak: int


def workload_of(run: Run) -> Workload:
    requests = run.requests
    gaps_s = np.diff(np.sort(requests.t_queued_ns)) / 1e9
    span_s = float(gaps_s.sum())
    return Workload(
        len(requests),
        _shapes(requests),
        Quantiles.of(requests.prompt_tokens.tolist()),
        Quantiles.of(requests.max_tokens.tolist()),
        Quantiles.of(requests.output_tokens.tolist()),
        len(gaps_s) / span_s if span_s > 0 else None,
        float(gaps_s.std() / gaps_s.mean()) if len(gaps_s) > 1 and span_s > 0 else None,
        _peak(requests),
    )


def _shapes(requests: Requests) -> str:
    shapes = np.stack([requests.prompt_tokens, requests.max_tokens], axis=1)
    ordered = shapes[np.lexsort(shapes.T)].astype("<i8")
    return hashlib.sha256(ordered.tobytes()).hexdigest()[:12]


def _peak(requests: Requests) -> int:
    """Who leaves in the same nanosecond as another comes makes room first."""
    stamps = np.concatenate([requests.t_queued_ns, requests.t_done_ns])
    moves = np.repeat([1, -1], len(requests))
    return int(np.cumsum(moves[np.lexsort((moves, stamps))]).max())


def differences(a: Run, b: Run, alignment: Alignment) -> list[str]:
    """A sentence for each way in which the two were asked different things; none if they were not.

    Requests that pair up have equal lengths. Arrivals agree if their rate does (an open loop), or
    the peak of requests in the engine (a closed loop, which is as fast as its server).
    """
    return [*_lengths(a, b, alignment), *_arrivals(workload_of(a), workload_of(b))]


def _lengths(a: Run, b: Run, alignment: Alignment) -> Iterator[str]:
    columns = ("prompt_tokens", "max_tokens", "output_tokens")
    words = ("prompts", "asked outputs", "outputs")
    for column, word in zip(columns, words, strict=True):
        first, second = getattr(a.requests, column), getattr(b.requests, column)
        if len(alignment):
            first, second = first[alignment.a], second[alignment.b]
        gap = _gap(first, second)
        if gap > _allowed(len(first), len(second)):
            yield (
                f"{word} of {first.mean():.0f} against {second.mean():.0f} tokens (means; "
                f"the distributions are {100 * gap:.0f} % apart)"
            )


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance between the two cumulative distributions, 0 to 1."""
    at = np.union1d(a, b)
    below = [np.searchsorted(np.sort(values), at, "right") / len(values) for values in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def _allowed(n: int, m: int) -> float:
    return min(_MOST_GAP, max(_LEAST_GAP, _KS * math.sqrt((n + m) / (n * m))))


def _arrivals(a: Workload, b: Workload) -> Iterator[str]:
    if abs(a.peak - b.peak) <= max(1, _RATE_TOLERANCE * max(a.peak, b.peak)):
        return
    if a.arrivals_per_s is None or b.arrivals_per_s is None:
        return
    noise = math.sqrt(1 / a.requests + 1 / b.requests)
    if abs(math.log(a.arrivals_per_s / b.arrivals_per_s)) > _RATE_TOLERANCE + 2 * noise:
        yield (
            f"{a.arrivals_per_s:.2f} arrivals/s with at most {a.peak} at once against "
            f"{b.arrivals_per_s:.2f} arrivals/s with at most {b.peak}"
        )
