"""What only grows while a session lasts, also when the requests it came from are forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec
from msgspec import field

from profiler.events import RequestAnswered, Step
from profiler.folds.histogram import (
    FIRST_TOKEN_S,
    REQUEST_S,
    SMALL_COUNTS,
    STEP_TOKENS,
    TOKEN_LATENCY_S,
    TOKENS,
    Histogram,
)
from profiler.folds.request_view import RequestView
from profiler.folds.requests import StepShare


class Totals(msgspec.Struct, array_like=True):
    """Counters and histograms in seconds or tokens.

    `prompt_tokens` counts whole prompts at their first token and `cached_prompt_tokens` the part
    of them that the prefix cache held, as vLLM does, and another server's when it tells of them;
    `prefill_tokens` counts what steps computed,
    again after a preemption. `device_ns` sums the steps whose device time is known.
    """

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    prefill_tokens: int = 0
    generated_tokens: int = 0
    step_ns: int = 0
    host_ns: int = 0
    device_ns: int = 0
    ttft_s: Histogram = field(default_factory=partial(Histogram.of, FIRST_TOKEN_S))
    itl_s: Histogram = field(default_factory=partial(Histogram.of, TOKEN_LATENCY_S))
    tpot_s: Histogram = field(default_factory=partial(Histogram.of, TOKEN_LATENCY_S))
    e2el_s: Histogram = field(default_factory=partial(Histogram.of, REQUEST_S))
    queue_s: Histogram = field(default_factory=partial(Histogram.of, REQUEST_S))
    inference_s: Histogram = field(default_factory=partial(Histogram.of, REQUEST_S))
    prefill_s: Histogram = field(default_factory=partial(Histogram.of, REQUEST_S))
    decode_s: Histogram = field(default_factory=partial(Histogram.of, REQUEST_S))
    request_prompt_tokens: Histogram = field(default_factory=partial(Histogram.of, TOKENS))
    request_generation_tokens: Histogram = field(default_factory=partial(Histogram.of, TOKENS))
    request_max_tokens: Histogram = field(default_factory=partial(Histogram.of, TOKENS))
    request_computed_tokens: Histogram = field(default_factory=partial(Histogram.of, TOKENS))
    request_preemptions: Histogram = field(default_factory=partial(Histogram.of, SMALL_COUNTS))
    step_tokens: Histogram = field(default_factory=partial(Histogram.of, STEP_TOKENS))
    packed_pages: int = 0

    def step(self, event: Step, share: StepShare) -> None:
        self.prefill_tokens += share.prefill_tokens
        self.generated_tokens += share.new_tokens
        self.step_ns += event.end_ns - event.t_ns
        self.host_ns += event.host_ns
        self.device_ns += event.device_ns or 0
        self.packed_pages += event.packed_pages
        self.step_tokens.add(share.prefill_tokens + share.new_tokens)
        self._gaps(share.gaps)

    def _gaps(self, gaps: Mapping[int, int]) -> None:
        for gap_ns, tokens in gaps.items():
            self.itl_s.add_ns(gap_ns, tokens)

    def received(self, share: StepShare) -> None:
        self.generated_tokens += share.new_tokens
        self._gaps(share.gaps)

    def answered(self, event: RequestAnswered, late_tokens: int) -> None:
        """`late_tokens` were told of only now."""
        self.prompt_tokens += event.num_prompt_tokens or 0
        self.cached_prompt_tokens += event.cached_tokens or 0
        self.generated_tokens += late_tokens

    def first_token(self, view: RequestView) -> None:
        self.prompt_tokens += view.num_prompt_tokens or 0
        self.cached_prompt_tokens += view.cached_tokens or 0
        self.ttft_s.add_ns(view.ttft_ns)

    def finished(self, view: RequestView) -> None:
        """What vLLM observes when a request finishes."""
        self.tpot_s.add_ns(view.tpot_ns)
        self.e2el_s.add_ns(view.e2el_ns)
        self.queue_s.add_ns(view.queue_ns)
        self.prefill_s.add_ns(view.prefill_ns)
        self.decode_s.add_ns(view.decode_ns)
        if view.prefill_ns is not None and view.decode_ns is not None:
            self.inference_s.add_ns(view.prefill_ns + view.decode_ns)
        self.request_generation_tokens.add(view.num_output_tokens)
        if view.max_tokens is not None:
            self.request_max_tokens.add(view.max_tokens)
        if view.num_prompt_tokens is not None:
            self.request_prompt_tokens.add(view.num_prompt_tokens)
            if view.cached_tokens is not None:
                self.request_computed_tokens.add(view.num_prompt_tokens - view.cached_tokens)
        if not view.is_foreign:
            self.request_preemptions.add(view.preemptions)
