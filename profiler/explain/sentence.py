"""An explanation in words.

token 118 44.0 ms = own ~11.6 + prefill of r-9219 ~31.0 (1,024 tokens) + host 1.4
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from profiler.explain.parts import Explanation, Part

# What would be printed as 0.0 ms is no news.
_LEAST_NS: Final = 50_000
_WORDS: Final = {
    "own": "own",
    "chunk": "own prompt",
    "recompute": "own recompute",
    "decode": "decode",
    "graph": "graph miss",
    "processor": "waiting for a processor",
    "host": "host",
    "capture": "kernel capture",
    "idle": "gap between steps",
}
_WAITS: Final = {
    "seats": "waiting for a seat",
    "tokens": "waiting for token budget",
    "pages": "waiting for pages",
    "prefix": "waiting for the same prompt of another request",
    "step": "waiting for the step under way",
}
_UNEXPLAINED: Final = {
    "slow": "unexplained (slower than like steps)",
    "lost": "unexplained (steps no longer kept)",
    "outside": "unexplained (not seen from outside)",
}

NameOf = Callable[[int], str]


def cause_words(part: Part, name_of: NameOf) -> str:
    """The cause for a person; `name_of` gives a request's name from its number."""
    if part.cause == "prefill":
        return f"prefill of {name_of(part.request)}"
    if part.cause == "waits":
        return _WAITS.get(part.detail, "waiting")
    if part.cause == "preempted":
        return f"preempted, {_WAITS[part.detail]}" if part.detail in _WAITS else "preempted"
    if part.cause == "clock":
        return f"clock drop ({part.detail})" if part.detail else "clock drop"
    if part.cause == "unexplained":
        return _UNEXPLAINED.get(part.detail, "unexplained")
    return _WORDS[part.cause]


def told_parts(parts: Iterable[Part]) -> list[Part]:
    """Those that are long enough to be told: they do not round to 0.0 ms."""
    return [part for part in parts if part.ns >= _LEAST_NS]


def sentence(subject: str, explanation: Explanation, name_of: NameOf) -> str:
    """One line: the subject ("token 118"), its time and what it was made of, in ms; "~" marks what
    is known by comparison. Names are the stream's: clean them before they reach a terminal."""
    parts = [_part_text(part, name_of) for part in told_parts(explanation.parts)]
    head = f"{subject} {explanation.total_ns / 1e6:.1f} ms"
    return f"{head} = {' + '.join(parts)}" if parts else head


def _part_text(part: Part, name_of: NameOf) -> str:
    mark = "~" if part.estimated else ""
    text = f"{cause_words(part, name_of)} {mark}{part.ns / 1e6:.1f}"
    return f"{text} ({part.tokens:,} tokens)" if part.tokens else text
