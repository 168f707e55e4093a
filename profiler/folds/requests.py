"""Every live request and the newest finished ones."""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, NamedTuple

import msgspec

from profiler.events import (
    RequestAborted,
    RequestFinished,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestRejected,
    RequestScheduled,
    Step,
)
from profiler.folds.request_view import RequestView

MAX_DONE: Final = 256
MAX_LIVE: Final = 65_536
_NO_TIMES: Final[array[int]] = array("q")


class StepShare(NamedTuple):
    """What the rows of a step add up to. `gaps` maps a gap before a token, ns, to its tokens."""

    prefill_tokens: int
    new_tokens: int
    gaps: dict[int, int]


class RequestsFrame(msgspec.Struct, array_like=True):
    """The fold as data. `steps` and `ends_ns` give the token times that the views leave out."""

    live: list[RequestView]
    done: list[RequestView]
    steps: array[int]
    ends_ns: array[int]
    num_finished: int
    num_aborted: int
    num_rejected: int
    num_preemptions: int
    finish_reasons: dict[str, int]
    reject_reasons: dict[str, int]


def _plain_reason(reason: str) -> str:
    return reason.partition(":")[0][:32]


class Requests:
    """`live` by request number in order of arrival; `done` the newest 256, oldest first."""

    def __init__(self) -> None:
        self.live: dict[int, RequestView] = {}
        self.done: deque[RequestView] = deque(maxlen=MAX_DONE)
        self.num_finished = 0
        self.num_aborted = 0
        self.num_rejected = 0
        self.num_preemptions = 0
        self.finish_reasons: dict[str, int] = {}
        self.reject_reasons: dict[str, int] = {}

    def get(self, request: int) -> RequestView | None:
        view = self.live.get(request)
        if view is not None:
            return view
        return next((v for v in reversed(self.done) if v.request == request), None)

    @property
    def num_waiting(self) -> int:
        """Requests that hold no place in the batch: queued or preempted."""
        return sum(v.phase in ("queued", "preempted") for v in self.live.values())

    @property
    def num_running(self) -> int:
        return len(self.live) - self.num_waiting

    @property
    def num_prefilling(self) -> int:
        return sum(v.phase == "prefill" for v in self.live.values())

    def queued(self, event: RequestQueued) -> None:
        if len(self.live) >= MAX_LIVE:
            del self.live[next(iter(self.live))]
        view = RequestView(
            event.request,
            event.name,
            event.num_prompt_tokens,
            event.max_tokens,
            event.priority,
            event.sampling,
            event.t_ns,
        )
        view.enter("queued", event.t_ns)
        self.live[event.request] = view

    def rejected(self, event: RequestRejected) -> None:
        self.num_rejected += 1
        _count(self.reject_reasons, event.reason)

    def scheduled(self, event: RequestScheduled) -> RequestView | None:
        view = self.live.get(event.request)
        if view is None:
            return None
        view.computed_tokens = event.cached_tokens
        if view.t_scheduled_ns is None:
            view.t_scheduled_ns = event.t_ns
            view.cached_tokens = event.cached_tokens
        view.enter("prefill", event.t_ns)
        return view

    def first_token(self, event: RequestFirstToken) -> RequestView | None:
        view = self.live.get(event.request)
        if view is None or view.t_first_ns is not None:
            return None
        view.t_first_ns = event.t_ns
        return view

    def preempted(self, event: RequestPreempted) -> None:
        self.num_preemptions += 1
        view = self.live.get(event.request)
        if view is None:
            return
        view.preemptions += 1
        view.computed_tokens = max(0, view.computed_tokens - event.lost_tokens)
        view.enter("preempted", event.t_ns)

    def ended(self, event: RequestFinished | RequestAborted) -> RequestView | None:
        """The view that moved from live to done."""
        if isinstance(event, RequestFinished):
            self.num_finished += 1
        else:
            self.num_aborted += 1
        _count(self.finish_reasons, event.reason)
        view = self.live.pop(event.request, None)
        if view is None:
            return None
        view.enter("done", event.t_ns)
        view.t_done_ns = event.t_ns
        view.finish_reason = event.reason
        view.num_output_tokens = max(view.num_output_tokens, event.num_output_tokens)
        self.done.append(view)
        return view

    def step(self, event: Step) -> StepShare:
        """Give each row's tokens to its request: one pass, since this is the hottest fold."""
        end_ns, number, live = event.end_ns, event.step, self.live
        prefill_tokens = new_tokens = 0
        gaps: dict[int, int] = {}
        for row in event.rows:
            view = live.get(row.request)
            if row.prefill_tokens:
                prefill_tokens += row.prefill_tokens
                if view is not None:
                    view.computed_tokens += row.prefill_tokens
            k = row.new_tokens
            if not k:
                continue
            new_tokens += k
            if view is None:
                continue
            if view.t_last_ns is not None:
                gap_ns = (end_ns - view.t_last_ns) // k
                gaps[gap_ns] = gaps.get(gap_ns, 0) + k
            view.t_last_ns = end_ns
            view.num_output_tokens += k
            for _ in range(k):
                view.token_times.append(end_ns)
                view.token_steps.append(number)
            if view.phase != "decode":
                view.enter("decode", end_ns)
        return StepShare(prefill_tokens, new_tokens, gaps)

    def freeze(self) -> RequestsFrame:
        ends: dict[int, int] = {}
        for views in (self.done, self.live.values()):
            for view in views:
                ends.update(zip(view.token_steps, view.token_times, strict=True))
        return RequestsFrame(
            [msgspec.structs.replace(v, token_times=_NO_TIMES) for v in self.live.values()],
            [msgspec.structs.replace(v, token_times=_NO_TIMES) for v in self.done],
            array("q", ends),
            array("q", ends.values()),
            self.num_finished,
            self.num_aborted,
            self.num_rejected,
            self.num_preemptions,
            self.finish_reasons,
            self.reject_reasons,
        )

    def thaw(self, frame: RequestsFrame) -> None:
        """Raises: ValueError, KeyError when a view names a step that the frame does not have."""
        ends = dict(zip(frame.steps, frame.ends_ns, strict=True))
        for view in (*frame.live, *frame.done):
            view.token_times = array("q", map(ends.__getitem__, view.token_steps))
        self.live = {v.request: v for v in frame.live}
        self.done.extend(frame.done)
        self.num_finished = frame.num_finished
        self.num_aborted = frame.num_aborted
        self.num_rejected = frame.num_rejected
        self.num_preemptions = frame.num_preemptions
        self.finish_reasons = frame.finish_reasons
        self.reject_reasons = frame.reject_reasons


def _count(counts: dict[str, int], reason: str) -> None:
    plain = _plain_reason(reason)
    if plain in counts or len(counts) < 64:
        counts[plain] = counts.get(plain, 0) + 1
