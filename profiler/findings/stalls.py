"""Who stalled whom: a request's prompt made the tokens of others late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Final

from profiler.conditions import Condition
from profiler.findings.moment import STEP_TIMES, Moment, StepTime
from profiler.findings.rule import Signal
from profiler.findings.words import name_of, plural
from profiler.state import SessionState

# Below 50 ms a token comes faster than people read; see profiler.folds.slo for its source.
READABLE_NS: Final = 50_000_000
TIMES_TYPICAL: Final = 3
# Together, of the newest 10 s: one late step on a busy machine is no finding.
LEAST_LOSS_NS: Final = 250_000_000
LEAST_PLAIN_STEPS: Final = 8
_MAX_NAMED: Final = 64


class PrefillStall:
    """Steps with a prompt in them that took three times as long as those that only decode, and
    longer than the objective on ITL, or 50 ms, while others waited for a token."""

    name: Final = "prefill_stall"
    level: Final = "warning"
    open_s: Final = 0
    close_s: Final = 10

    def look(self, moment: Moment) -> Signal | None:
        plain = [s.ns for s in moment.steps if s.decoding and not s.prefill]
        if len(plain) < LEAST_PLAIN_STEPS:
            return None
        typical_ns = median(plain)
        # What also happens without a prompt is not the prompt's doing.
        usual_worst_ns = sorted(plain)[int(0.95 * (len(plain) - 1))]
        late_ns = max(
            readable_ns(moment.state.objectives), TIMES_TYPICAL * typical_ns, 2 * usual_worst_ns
        )
        stalled = [s for s in moment.steps if s.prefill and s.decoding and s.ns > late_ns]
        lost_ns = sum(s.ns - typical_ns for s in stalled)
        if lost_ns < LEAST_LOSS_NS:
            return None
        return _signal(moment.state, moment.steps, stalled, lost_ns)


def readable_ns(objectives: Iterable[Condition]) -> float:
    """The gap before a token from which on somebody minds."""
    bounds = [
        o.bound * 1e6 for o in objectives if o.metric.startswith("itl_") and o.op.startswith("<")
    ]
    return min(bounds, default=float(READABLE_NS))


def _signal(
    state: SessionState, steps: Sequence[StepTime], stalled: list[StepTime], lost_ns: float
) -> Signal:
    culprit = _culprit(stalled)
    theirs = [s for s in stalled if any(r == culprit for r, _ in s.prefill)][-_MAX_NAMED:]
    worst = max(theirs, key=lambda s: s.ns)
    tokens = sum(s.prefill_tokens for s in theirs)
    mean_ms = fmean(s.ns for s in theirs) / 1e6
    plain_ms = fmean(s.ns for s in steps if not s.prefill and s.decoding) / 1e6
    waiting = len({request for s in theirs for request in s.decoding})
    others = len({request for s in theirs for request, _ in s.prefill} - {culprit})
    whose = f" of it and {plural(others, 'other')}" if others else ""
    evidence = {
        "steps": len(theirs),
        "prefill_tokens": tokens,
        "mean_ms": mean_ms,
        "plain_ms": plain_ms,
    }
    return Signal(
        lost_ns,
        f"prefill of {name_of(state, culprit)} made {waiting} wait: {tokens:,} prompt tokens"
        f"{whose} in {plural(len(theirs), 'step')} of {mean_ms:.0f} ms, {plain_ms:.0f} ms without",
        evidence,
        _sql(steps, theirs),
        culprit,
        worst.step,
    )


def _culprit(stalled: list[StepTime]) -> int:
    """The request with most of the prompt tokens in those steps."""
    tokens: dict[int, int] = defaultdict(int)
    for step in stalled:
        for request, count in step.prefill:
            tokens[request] += count
    return max(tokens, key=lambda request: (tokens[request], -request))


def _sql(steps: Sequence[StepTime], theirs: list[StepTime]) -> str:
    times = STEP_TIMES.format(first=steps[0].step - 1, last=steps[-1].step)
    named = ", ".join(str(s.step) for s in theirs)
    return (
        f"WITH timed AS ({times}) SELECT count(*) AS steps, "
        "sum(prefill_tokens) AS prefill_tokens, avg(ns) / 1e6 AS mean_ms, "
        "(SELECT avg(ns) / 1e6 FROM timed WHERE prefill_tokens = 0 AND new_tokens > 0 "
        f"AND step >= {steps[0].step}) AS plain_ms FROM timed WHERE step IN ({named})"
    )
