"""What a ring holds, as one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from profiler.compare.run import Run, requests_of, steps_of
from profiler.errors import SessionFileError
from profiler.events import AnyEvent, RequestAborted, RequestFinished, RequestQueued, Step
from profiler.folds.request_view import RequestView
from profiler.session.packed_gaps import pack_gaps
from profiler.session.ring import Ring
from profiler.state import SessionState

NAME: Final = "in memory"


def ring_run(ring: Ring) -> Run:
    """The same as from a recording that begins and ends with `ring`: requests that came before it
    are left out. Any thread may ask. Raises: SessionFileError when no request in it ended."""
    fold = _Fold(ring)
    for seq, event in ring.events(fold.state.seq):
        fold.apply(event, seq)
    if not fold.requests:
        raise SessionFileError(
            "no request ended in what is kept in memory", "llmtop load sends some"
        )
    state = fold.state
    return Run(
        Path(NAME),
        state.session,
        {},
        fold.start_ns,
        state.t_ns,
        requests_of(sorted(fold.requests)),
        steps_of(fold.steps),
        sum(request in fold.queued for request in state.requests.live),
    )


class _Fold:
    """The rows of `request` and `step` that a recorder would write."""

    def __init__(self, ring: Ring) -> None:
        segments = ring.segments()
        self.state = SessionState.restore(segments[0].keyframe) if segments else SessionState()
        self.start_ns = self.state.t_ns
        self.queued: set[int] = set()
        self.requests: list[tuple[Any, ...]] = []
        self.steps: list[tuple[int, ...]] = []

    def apply(self, event: AnyEvent, seq: int) -> None:
        self.state.apply(event, seq)
        if isinstance(event, Step):
            self.steps.append(tuple(_step_row(event)))
        elif isinstance(event, RequestQueued):
            self.queued.add(event.request)
        elif isinstance(event, RequestFinished | RequestAborted) and event.request in self.queued:
            view = self.state.requests.get(event.request)
            if view is not None:
                self.requests.append(_request_row(view))


def _step_row(step: Step) -> Iterator[int]:
    yield step.t_ns
    yield step.end_ns
    yield sum(row.prefill_tokens for row in step.rows)
    yield sum(row.new_tokens for row in step.rows)
    yield step.pages_used


def _request_row(view: RequestView) -> tuple[Any, ...]:
    return (
        view.request,
        view.name,
        view.finish_reason,
        view.num_prompt_tokens,
        view.max_tokens,
        view.cached_tokens,
        view.num_output_tokens,
        view.preemptions,
        view.t_queued_ns,
        view.t_scheduled_ns,
        view.t_first_ns,
        view.t_last_ns,
        view.t_done_ns,
        pack_gaps(view.itl_ns),
    )
