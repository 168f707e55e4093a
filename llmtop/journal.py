"""What happened, in words and on one clock: the log, start-up, and how requests ended."""

from __future__ import annotations

from collections.abc import Iterable, Reversible
from functools import lru_cache
from itertools import chain, islice
from operator import attrgetter
from typing import TypeVar

from llmtop.format import grouped, ns_as_ms, seconds, short_name, size
from profiler.events import Log
from profiler.folds.phases import PhaseSpan
from profiler.folds.request_view import RequestView
from profiler.state import SessionState

T = TypeVar("T")


def journal(state: SessionState, newest: int | None = None) -> list[Log]:
    """Oldest first; with `newest` only so many of the newest entries."""
    parts: list[Iterable[Log]] = [
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


def phase_entry(span: PhaseSpan) -> Log:
    """One line a phase, at its end so far."""
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
        f"{short_name(request.name)} {reason}: {request.num_prompt_tokens} in{cached}",
        f"{request.num_output_tokens} out",
    ]
    if request.ttft_ns is not None:
        words.append(f"ttft {ns_as_ms(request.ttft_ns)} ms")
    if request.preemptions:
        words.append(f"preempted {request.preemptions}x")
    level = "info" if reason in ("stop", "length") else "warning"
    return Log(request.t_done_ns or request.t_queued_ns, level, "request", ", ".join(words))
