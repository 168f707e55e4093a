"""The requests that became slower by most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from profiler.compare.alignment import Alignment
from profiler.compare.run import Run

NUM_WORST: Final = 10
LATENCIES: Final = ("ttft", "tpot", "e2el")


class Regression(msgspec.Struct, frozen=True):
    """A pair of requests by their numbers and names in A and B, ended at `t_done` there, and what
    the latency was, in ms."""

    latency: str
    request_a: int
    request_b: int
    name_a: str
    name_b: str
    prompt_tokens: int
    output_tokens_b: int
    a_ms: float
    b_ms: float
    t_done_a_ns: int
    t_done_b_ns: int

    @property
    def change_ms(self) -> float:
        return self.b_ms - self.a_ms


def worst_regressions(a: Run, b: Run, alignment: Alignment) -> list[Regression]:
    """Of TTFT, TPOT and E2EL each the ten pairs that grew by most ms, worst first; none without
    pairs, and only such that did grow."""
    if not len(alignment):
        return []
    return [pair for latency in LATENCIES for pair in _worst(latency, a, b, alignment)]


def _worst(latency: str, a: Run, b: Run, alignment: Alignment) -> Iterator[Regression]:
    first = a.requests.latency_ms(latency)[alignment.a]
    second = b.requests.latency_ms(latency)[alignment.b]
    growth = np.nan_to_num(second - first, nan=-np.inf)
    for at in np.argsort(-growth, kind="stable")[:NUM_WORST].tolist():
        if growth[at] > 0:
            i, j = int(alignment.a[at]), int(alignment.b[at])
            yield Regression(
                latency,
                int(a.requests.numbers[i]),
                int(b.requests.numbers[j]),
                a.requests.names[i],
                b.requests.names[j],
                int(a.requests.prompt_tokens[i]),
                int(b.requests.output_tokens[j]),
                float(first[at]),
                float(second[at]),
                int(a.requests.t_done_ns[i]),
                int(b.requests.t_done_ns[j]),
            )
