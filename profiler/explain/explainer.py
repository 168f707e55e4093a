"""Why a token took as long as it did, and why the first one did."""

from __future__ import annotations

from collections.abc import Iterator

from profiler.events import Step
from profiler.explain.clocks import Clocks
from profiler.explain.parts import Explanation, Part, StepParts
from profiler.explain.sentence import sentence
from profiler.explain.stepsplit import StepSplitter
from profiler.explain.usual import UsualSteps
from profiler.folds.request_view import RequestView
from profiler.state import SessionState

_ABSENT = {"queued": "waits", "preempted": "preempted"}


class Explainer:
    """Explains what is known at one moment: it reads the state's folds and keeps nothing of them.

    Like steps are looked for among the newest 512. Make a new one once the state has moved on.
    """

    def __init__(self, state: SessionState) -> None:
        self._steps = state.steps
        self._requests = state.requests
        self._held = state.held
        self._splitter = StepSplitter(UsualSteps(state.steps), Clocks(state.gpus), state.held)

    def step(self, step: Step) -> list[Part]:
        """The parts of a step as nobody's view, and of the gap before it if that is known."""
        before = self._steps.find(step.step - 1)
        begin_ns = step.t_ns if before is None else max(step.t_ns, before.end_ns)
        since_ns = begin_ns if before is None else before.end_ns
        return [*self._splitter.split(step, begin_ns), *self._between(since_ns, begin_ns)]

    def token(self, view: RequestView, at: int) -> Explanation | None:
        """Of the gap before the token at index `at` of `view.token_steps`, or of the time to the
        first token; the tokens of one step share a gap. None if the gap's begin is not known."""
        steps, times = view.token_steps, view.token_times
        if steps[at] == view.first_step:
            return self.first_token(view)
        last = next((i for i in range(at - 1, -1, -1) if steps[i] != steps[at]), None)
        if last is None:
            return None
        return self._explain(view, times[last], times[at], steps[last])

    def line(self, view: RequestView, at: int) -> str:
        """The token's explanation as one line, "" where there is none; see `sentence`."""
        explanation = self.token(view, at)
        if explanation is None:
            return ""
        is_first = view.token_steps[at] == view.first_step
        subject = f"{view.name} " + ("first token" if is_first else f"token {at + 1}")
        return sentence(subject, explanation, self._name_of)

    def _name_of(self, request: int) -> str:
        known = self._requests.get(request)
        return f"#{request}" if known is None else known.name

    def first_token(self, view: RequestView) -> Explanation | None:
        """Of the time from the request's arrival to its first token; None before that."""
        if view.t_first_ns is None:
            return None
        return self._explain(view, view.t_queued_ns, view.t_first_ns, None)

    def _explain(
        self, view: RequestView, begin_ns: int, end_ns: int, last_step: int | None
    ) -> Explanation:
        """`last_step` is the number of the step that ends at `begin_ns`, where one does."""
        stretches: list[StepParts] = []
        at_ns, known = begin_ns, last_step
        for step in self._steps.between(begin_ns, end_ns):
            start_ns = min(max(at_ns, step.t_ns), step.end_ns)
            parts = list(self._before(view, step, at_ns, start_ns, known))
            parts += self._in_step(view, step, start_ns)
            stretches.append(StepParts(step.step, tuple(part for part in parts if part.ns)))
            at_ns, known = step.end_ns, step.step
        if at_ns < end_ns:
            unseen = _unseen(view, at_ns, end_ns)
            stretches.append(StepParts(None, tuple(part for part in unseen if part.ns)))
        return Explanation(begin_ns, end_ns, tuple(stretches))

    def _before(
        self, view: RequestView, step: Step, at_ns: int, start_ns: int, known: int | None
    ) -> Iterator[Part]:
        """What lies between `at_ns` and the step, `known` being the step before that is known."""
        if start_ns <= at_ns:
            return
        follows = known == step.step - 1 if known is not None else self._is_first_since(step)
        if follows:
            yield from self._between(at_ns, start_ns)
        else:
            yield from _unseen(view, at_ns, start_ns)

    def _between(self, end_ns: int, begin_ns: int) -> list[Part]:
        """From the end of a step to the begin of the next."""
        held_ns = self._held.ns_within(end_ns, begin_ns)
        return [Part("capture", held_ns), Part("idle", begin_ns - end_ns - held_ns)]

    def _is_first_since(self, step: Step) -> bool:
        """Whether no step that is forgotten can lie before this one."""
        return step.step <= 1 or self._steps.find(step.step - 1) is not None

    def _in_step(self, view: RequestView, step: Step, start_ns: int) -> list[Part]:
        if any(row.request == view.request for row in step.rows):
            again = _was_preempted(view, step.t_ns)
            return self._splitter.split(step, start_ns, view.request, again)
        phase = _phase_at(view, step.t_ns)
        cause = _ABSENT.get(phase, "waits")
        return [Part(cause, step.end_ns - start_ns, detail=_lack(view, step, phase))]


def _lack(view: RequestView, step: Step, phase: str) -> str:
    """What a request in `phase` lacked to be in the step: who prefills has seat and pages."""
    if phase == "prefill":
        return "tokens"
    if phase == "queued" and (step.t_ns < view.t_queued_ns or not step.num_waiting):
        return "step"
    return step.waits_for if phase in _ABSENT else ""


def _phase_at(view: RequestView, t_ns: int) -> str:
    """The phase that the request was in, "queued" before its arrival."""
    phase = "queued"
    for span in view.spans:
        if span.t_ns > t_ns:
            break
        phase = span.phase
    return phase


def _was_preempted(view: RequestView, t_ns: int) -> bool:
    return any(span.phase == "preempted" and span.t_ns <= t_ns for span in view.spans)


def _unseen(view: RequestView, begin_ns: int, end_ns: int) -> Iterator[Part]:
    """A stretch whose steps are not known: waiting is known by the request's phases alone."""
    at_ns, why = begin_ns, "outside" if view.is_foreign else "lost"
    for span in view.spans:
        if span.phase not in _ABSENT:
            continue
        start_ns = max(at_ns, span.t_ns)
        stop_ns = end_ns if span.end_ns is None else min(end_ns, span.end_ns)
        if stop_ns > start_ns:
            yield Part("unexplained", start_ns - at_ns, detail=why)
            yield Part(_ABSENT[span.phase], stop_ns - start_ns)
            at_ns = stop_ns
    if end_ns > at_ns:
        yield Part("unexplained", end_ns - at_ns, detail=why)
