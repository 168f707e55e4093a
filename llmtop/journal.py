"""What happened, in words and on one clock: the log, start-up, findings, how requests ended."""

from __future__ import annotations

from collections.abc import Iterable, Reversible, Sequence
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import TypeVar

from llmtop.columns import output_tokens
from llmtop.format import grouped, ns_as_ms, seconds, short_name, size
from profiler.events import Finding, Log
from profiler.folds.phases import PhaseSpan
from profiler.folds.request_view import RequestView
from profiler.state import SessionState

T = TypeVar("T")


def journal(
    state: SessionState, newest: int | None = None, findings: Sequence[Finding] = ()
) -> list[Log]:
    """Oldest first; with `newest` only so many of the newest entries."""
    found = [entry for finding in findings for entry in finding_entries(finding)]
    found.sort(key=lambda entry: entry.t_ns)
    parts: list[Iterable[Log]] = [
        _tail(found, newest),
        _tail(state.log.lines, newest),
        map(phase_entry, _tail(state.phases.spans, newest)),
        map(request_entry, _tail(state.requests.done, newest)),
    ]
    # Each part is in order already, which is what this sort is fast with.
    entries = sorted(chain(*parts), key=attrgetter("t_ns"))
    return entries if newest is None else entries[max(0, len(entries) - newest) :]


def _tail(items: Reversible[T], count: int | None) -> list[T]:
    tail = list(islice(reversed(items), count))
    tail.reverse()
    return tail


def finding_entries(finding: Finding) -> list[Log]:
    """A line where it began to hold and, once it is over, one where that was."""
    is_alert = finding.level == "alert"
    source = "alert" if is_alert else "finding"
    began = Log(finding.since_ns, "error" if is_alert else "warning", source, finding.text)
    if finding.status != "closed":
        return [began]
    lasted = seconds(finding.t_ns - finding.since_ns)
    return [began, Log(finding.t_ns, "info", source, f"over after {lasted}: {finding.text}")]


def phase_entry(span: PhaseSpan) -> Log:
    """One line a phase, at its end so far; what it took is said of work, not of being ready."""
    if span.name == "ready":
        return Log(span.t_ns, "info", "engine", span.name)
    took = span.t_last_ns - span.t_ns
    amount = ""
    if span.done:
        unit = span.unit if span.unit != "bytes" else ""
        done = size(span.done) if span.unit == "bytes" else grouped(span.done)
        amount = f" {done} {unit}".rstrip()
    time = f" in {seconds(took)}" if took else ""
    return Log(span.t_last_ns, "info", "engine", f"{span.name}{amount}{time}")


# Cached by the view itself: one that has ended does not change, and its entry is asked for four
# times a second.
@lru_cache(maxsize=512)
def request_entry(request: RequestView) -> Log:
    """How a request ended; one that was aborted is a warning."""
    reason = request.finish_reason or ""
    cached = f" ({request.cached_tokens} cached)" if request.cached_tokens else ""
    words = [
        f"{short_name(request.name)} {reason}: {grouped(request.num_prompt_tokens)} in{cached}",
        f"{output_tokens(request)} out",
    ]
    if request.ttft_ns is not None:
        words.append(f"ttft {ns_as_ms(request.ttft_ns)} ms")
    if request.preemptions:
        words.append(f"preempted {request.preemptions}x")
    level = "warning" if request.was_aborted else "info"
    return Log(request.t_done_ns or request.t_queued_ns, level, "request", ", ".join(words))
