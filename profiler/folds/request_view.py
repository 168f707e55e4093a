"""One request as it stands: its stamps, its tokens, its phases."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from operator import sub

import msgspec

from profiler.folds.step_times import StepTimes, StepTimesFrame
from profiler.foreign_events import RequestAnswered


class Span(msgspec.Struct, array_like=True, gc=False):
    """A stretch of a request's life; `end_ns` is None while it lasts."""

    t_ns: int
    end_ns: int | None
    phase: str


class TokenRun(msgspec.Struct, array_like=True, gc=False):
    """`per_step` tokens in each of the steps `first` to `last`."""

    first: int
    last: int
    per_step: int


class RequestView(msgspec.Struct, array_like=True, eq=False):
    """Stamps are engine stamps, None until known. `phase` is queued, prefill, decode, preempted
    or done. `computed_tokens` counts the context tokens that are in pages because they were cached
    or prefilled. `num_pages` is what it holds, or held when it ended.

    A request that another server computes has `t_sent_ns`; it is in phase upstream, not queued or
    prefilled, until its first token came. Each piece of its answer counts as a step, numbered from
    0 in `step_times` of its own. What nobody tells is None; `is_estimate` says that its tokens are
    counted pieces, `answer` what came.

    Tokens are kept as runs of steps, since a decoding request makes the same number of tokens in
    step after step: a token's time is the end of its step, which `step_times` knows once for all.
    `last_step` gave the newest tokens and is the true end of the last run; `steady` says that this
    run gives one token a step. Those two are what the hottest loop of all folds touches.
    """

    request: int
    name: str
    num_prompt_tokens: int | None
    max_tokens: int | None
    priority: int
    sampling: str
    t_queued_ns: int
    step_times: StepTimes | None
    phase: str = "queued"
    cached_tokens: int | None = 0
    computed_tokens: int = 0
    t_scheduled_ns: int | None = None
    t_first_ns: int | None = None
    t_done_ns: int | None = None
    finish_reason: str | None = None
    preemptions: int = 0
    num_pages: int | None = 0
    spans: list[Span] = []
    runs: list[TokenRun] = []
    last_step: int = -1
    steady: bool = False
    told_tokens: int = 0
    t_end_ns: int | None = None
    t_sent_ns: int | None = None
    answer: RequestAnswered | None = None
    own_times: StepTimesFrame | None = None

    @property
    def was_aborted(self) -> bool:
        """It ended without an answer: its client went, the server stopped or an error came."""
        return self.finish_reason not in (None, "stop", "length")

    @property
    def is_foreign(self) -> bool:
        """Whether another server computes it."""
        return self.t_sent_ns is not None

    @property
    def is_estimate(self) -> bool:
        """Whether its output tokens are counted pieces of the answer."""
        told = self.answer is not None and self.answer.num_output_tokens is not None
        return self.is_foreign and not told

    @property
    def first_step(self) -> int | None:
        """The step of the first token."""
        return self.runs[0].first if self.runs else None

    def token_runs(self) -> list[TokenRun]:
        """All runs, the last one up to the newest token."""
        if self.runs:
            self.runs[-1].last = self.last_step
        return self.runs

    @property
    def num_output_tokens(self) -> int:
        if self.is_foreign and self.t_done_ns is not None:
            return self.told_tokens
        made = 0
        for run in self.token_runs():
            made += (run.last - run.first + 1) * run.per_step
        return max(self.told_tokens, made)

    @property
    def known_output_tokens(self) -> int | None:
        """As `num_output_tokens`; None of an answer that could not be read."""
        answer = self.answer
        if answer is not None and answer.num_output_tokens is answer.counted_tokens is None:
            return None
        return self.num_output_tokens

    @property
    def token_steps(self) -> array[int]:
        """The step of each output token, those left out whose step is no longer known."""
        return array("q", (step for step, _, k in self._chunks() for _ in range(k)))

    @property
    def token_times(self) -> array[int]:
        """The end of the step that made each token, as `token_steps`; k tokens of one step are
        k equal entries."""
        return array("q", (end_ns for _, end_ns, k in self._chunks() for _ in range(k)))

    def _chunks(self) -> Iterator[tuple[int, int, int]]:
        """(step, end_ns, tokens) of every step that is still known."""
        if self.step_times is None:
            return
        for run in self.token_runs():
            steps, ends = self.step_times.between(run.first, run.last)
            for step, end_ns in zip(steps, ends, strict=True):
                if end_ns:
                    yield step, end_ns, run.per_step

    def _known_runs(self, since: int) -> Iterator[tuple[list[int] | array[int], int]]:
        """(ends, tokens of each) of the steps of each run that are still known, from step `since`
        on; none empty."""
        if self.step_times is None:
            return
        for run in self.token_runs():
            _, ends = self.step_times.between(max(run.first, since), run.last)
            known = [end_ns for end_ns in ends if end_ns] if 0 in ends else ends
            if known:
                yield known, run.per_step

    @property
    def t_last_ns(self) -> int | None:
        """The end of the step that made the newest token."""
        if self.t_end_ns is not None or self.step_times is None:
            return self.t_end_ns
        return self.step_times.get(self.last_step)

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
        t_last_ns = self.t_last_ns
        if t_last_ns is None or self.t_first_ns is None:
            return None
        return t_last_ns - self.t_first_ns

    @property
    def e2el_ns(self) -> int | None:
        """From queued in the engine to the newest token."""
        t_last_ns = self.t_last_ns
        return None if t_last_ns is None else t_last_ns - self.t_queued_ns

    @property
    def tpot_ns(self) -> float | None:
        """(e2el - ttft) / (n - 1); None, not 0, for a single token."""
        decode_ns, n = self.decode_ns, self.num_output_tokens
        return None if decode_ns is None or n < 2 else decode_ns / (n - 1)

    @property
    def itl_ns(self) -> list[int]:
        """The gap before each token but those of the first step; k tokens of one step share it."""
        return self.gaps_since(-1)

    def gaps_since(self, step: int) -> list[int]:
        """As `itl_ns`, of the tokens that came after those of `step`, one of the request's own."""
        gaps: list[int] = []
        before: int | None = None
        for ends, k in self._known_runs(step):
            if before is not None:
                gaps += [(ends[0] - before) // k] * k
            between = map(sub, ends[1:], ends)
            gaps += between if k == 1 else (gap // k for gap in between for _ in range(k))
            before = ends[-1]
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

    def begin_run(self, step: int, per_step: int) -> None:
        """The step gave `per_step` tokens, and not as the continuation of the newest run."""
        self.token_runs().append(TokenRun(step, step, per_step))
        self.last_step = step
        self.steady = per_step == 1

    def forward(self, t_ns: int) -> None:
        """Another server computes it from now on."""
        self.t_sent_ns = t_ns
        self.step_times = StepTimes()
        self.cached_tokens = self.num_pages = None
        self.enter("upstream", t_ns)

    def receive(self, t_ns: int, num_tokens: int) -> int | None:
        """The time since the piece of the answer before this one, ns; None of the first."""
        before_ns, times = self.t_last_ns, self.step_times
        if times is None or not self.is_foreign:
            return None
        times.add(times.last + 1, t_ns)
        if self.runs and self.runs[-1].per_step == num_tokens:
            self.last_step = times.last
        else:
            self.begin_run(times.last, num_tokens)
        return None if before_ns is None else t_ns - before_ns

    def freeze(self) -> None:
        """Keep the times that only this request knows where they are written."""
        self.token_runs()
        lives = self.own_times is None or self.t_done_ns is None
        if self.is_foreign and self.step_times is not None and lives:
            self.own_times = self.step_times.freeze(0)

    def thaw(self, shared: StepTimes) -> None:
        """Raises: ValueError when its own times are cut."""
        self.step_times = shared
        if self.own_times is not None:
            self.step_times = StepTimes()
            self.step_times.thaw(self.own_times)

    def end(self, t_ns: int, reason: str, told_tokens: int) -> None:
        self.t_end_ns = self.t_last_ns
        self.told_tokens = told_tokens
        self.own_times = None
        self.t_done_ns = t_ns
        self.finish_reason = reason
        self.enter("done", t_ns)
