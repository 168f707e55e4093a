"""One request as it stands: its stamps, its tokens, its phases."""

from __future__ import annotations

from array import array
from itertools import groupby

import msgspec


class Span(msgspec.Struct, array_like=True):
    """A stretch of a request's life; `end_ns` is None while it lasts."""

    t_ns: int
    end_ns: int | None
    phase: str


class RequestView(msgspec.Struct, array_like=True):
    """Stamps are engine stamps, None until known. `phase` is queued, prefill, decode, preempted
    or done. `token_times` holds the end of the step that made each output token and `token_steps`
    that step's number; k tokens of one step are k equal entries. `computed_tokens` counts the
    context tokens that are in pages because they were cached or prefilled.
    """

    request: int
    name: str
    num_prompt_tokens: int
    max_tokens: int
    priority: int
    sampling: str
    t_queued_ns: int
    phase: str = "queued"
    cached_tokens: int = 0
    computed_tokens: int = 0
    num_output_tokens: int = 0
    t_scheduled_ns: int | None = None
    t_first_ns: int | None = None
    t_last_ns: int | None = None
    t_done_ns: int | None = None
    finish_reason: str | None = None
    preemptions: int = 0
    num_pages: int = 0
    token_times: array[int] = msgspec.field(default_factory=lambda: array("q"))
    token_steps: array[int] = msgspec.field(default_factory=lambda: array("q"))
    spans: list[Span] = []

    @property
    def queue_ns(self) -> int | None:
        """From queued to the start of the first prefill step."""
        return None if self.t_scheduled_ns is None else self.t_scheduled_ns - self.t_queued_ns

    @property
    def prefill_ns(self) -> int | None:
        """From the start of the first prefill step to the first token."""
        if self.t_first_ns is None or self.t_scheduled_ns is None:
            return None
        return self.t_first_ns - self.t_scheduled_ns

    @property
    def ttft_ns(self) -> int | None:
        """From queued in the engine to the first token: the engine's side of the client's TTFT."""
        return None if self.t_first_ns is None else self.t_first_ns - self.t_queued_ns

    @property
    def decode_ns(self) -> int | None:
        """From the first token to the newest."""
        if self.t_last_ns is None or self.t_first_ns is None:
            return None
        return self.t_last_ns - self.t_first_ns

    @property
    def e2el_ns(self) -> int | None:
        """From queued in the engine to the newest token."""
        return None if self.t_last_ns is None else self.t_last_ns - self.t_queued_ns

    @property
    def tpot_ns(self) -> float | None:
        """(e2el - ttft) / (n - 1); None, not 0, for a single token."""
        if self.decode_ns is None or self.num_output_tokens < 2:
            return None
        return self.decode_ns / (self.num_output_tokens - 1)

    @property
    def itl_ns(self) -> list[int]:
        """The gap before each token but those of the first step; k tokens of one step share it."""
        gaps: list[int] = []
        before: int | None = None
        for end_ns, chunk in groupby(self.token_times):
            k = sum(1 for _ in chunk)
            if before is not None:
                gaps += [(end_ns - before) // k] * k
            before = end_ns
        return gaps

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens per second since the first token; None below two tokens."""
        tpot_ns = self.tpot_ns
        return 1e9 / tpot_ns if tpot_ns else None

    def enter(self, phase: str, t_ns: int) -> None:
        """Close the span that lasts and, unless the request is done, begin the next."""
        if self.spans:
            self.spans[-1].end_ns = t_ns
        if phase != "done":
            self.spans.append(Span(t_ns, None, phase))
        self.phase = phase
