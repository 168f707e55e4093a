"""What a request row can show, sort by and be filtered by: one list for all three."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

from llmtop.format import NONE, grouped, milliseconds_within, seconds, short, short_name
from llmtop.sanitize import clean_line
from profiler.folds.request_view import RequestView

Value = Callable[[RequestView, int], float | str | None]


@dataclass(frozen=True, slots=True)
class Field:
    """`value` gives a number, a word or None from a request and the state's time in ns.

    Times are in ms. `width` is the column's, 0 if it has none; `title` what stands above it.
    """

    name: str
    help: str
    value: Value
    is_word: bool = False
    width: int = 0
    title: str = ""
    text: Callable[[float], str] = short


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / 1e6


def output_tokens(request: RequestView) -> str:
    """The number of tokens put out; with ~ where it is an estimate."""
    count = request.known_output_tokens
    estimate = "~" if request.is_estimate and count is not None else ""
    return f"{estimate}{grouped(count)}"


def age_ns(request: RequestView, t_ns: int) -> int:
    """From arrival to the end, or to `t_ns` while the request lives."""
    return (t_ns if request.t_done_ns is None else request.t_done_ns) - request.t_queued_ns


def itl_p95_ms(request: RequestView) -> float | None:
    """The 95th percentile (nearest rank) of the request's own inter-token latencies."""
    return p95_ms(sorted(request.itl_ns))


def p95_ms(ordered: Sequence[int]) -> float | None:
    """Of ns that rise; None of none."""
    return None if not ordered else ordered[max(0, -(-95 * len(ordered) // 100) - 1)] / 1e6


def gaps_ms(request: RequestView) -> list[float]:
    """The gap before each token but those of the first step, in ms."""
    return [gap / 1e6 for gap in request.itl_ns]


def token_cursor(request: RequestView, chosen: int | None) -> int:
    """Index of the token to look at: the one `chosen`, else the slowest one after the first."""
    count = len(request.token_steps)
    if chosen is not None:
        return max(0, min(count - 1, chosen))
    gaps = request.itl_ns
    return count - len(gaps) + max(range(len(gaps)), key=gaps.__getitem__) if gaps else 0


def slowest_tokens(request: RequestView, count: int) -> list[int]:
    """Indices of the `count` tokens with the longest gaps before them, the longest first."""
    gaps = request.itl_ns
    first = len(request.token_steps) - len(gaps)
    return [first + at for at in nlargest(count, range(len(gaps)), key=gaps.__getitem__)]


def phase_of(request: RequestView) -> str:
    """Its phase; "aborted" where it ended without an answer."""
    return "aborted" if request.was_aborted else request.phase


def _age_text(value_ms: float) -> str:
    return seconds(int(value_ms * 1e6))


def _ms_text(value_ms: float) -> str:
    return milliseconds_within(value_ms, 6)


_ALL: Final = (
    Field("id", "request id", lambda r, t: clean_line(short_name(r.name)), True, 10, "id"),
    Field(
        "phase",
        "queued upstream prefill decode preempted done",
        lambda r, t: phase_of(r),
        True,
        9,
        "phase",
    ),
    Field("age", "ms since arrival", lambda r, t: age_ns(r, t) / 1e6, False, 6, "age", _age_text),
    Field("in", "prompt tokens", lambda r, t: r.num_prompt_tokens, False, 6, "in"),
    Field("hit", "tokens from the prefix cache", lambda r, t: r.cached_tokens, False, 6, "hit"),
    Field("out", "tokens put out", lambda r, t: r.known_output_tokens, False, 5, "out"),
    Field("tps", "output tokens per second", lambda r, t: r.tokens_per_s, False, 6, "tok/s"),
    Field("ttft", "ms to the first token", lambda r, t: _ms(r.ttft_ns), False, 6, "ttft", _ms_text),
    Field("itl", "p95 between tokens, ms", lambda r, t: itl_p95_ms(r), False, 6, "itl95", _ms_text),
    Field("pages", "KV pages held", lambda r, t: r.num_pages, False, 6, "pages"),
    Field("queue", "ms in the queue", lambda r, t: _ms(r.queue_ns)),
    Field("tpot", "mean ms per output token", lambda r, t: _ms(r.tpot_ns)),
    Field("e2el", "ms from arrival to end", lambda r, t: _ms(r.e2el_ns)),
    Field("preempts", "times preempted", lambda r, t: None if r.is_foreign else r.preemptions),
    Field(
        "finish", "stop length disconnect shutdown error", lambda r, t: r.finish_reason or "", True
    ),
    Field("prio", "priority", lambda r, t: r.priority),
)
FIELDS: Final[dict[str, Field]] = {field.name: field for field in _ALL}
SORTS: Final = ("age", "id", "phase", "in", "hit", "out", "tps", "ttft", "itl", "pages")


def cell_text(field: Field, request: RequestView, t_ns: int) -> str:
    return value_text(field, request, field.value(request, t_ns))


def value_text(field: Field, request: RequestView, value: float | str | None) -> str:
    """The request's value of `field` as it stands in the table."""
    if value is None:
        return NONE
    if field.name == "out" and request.is_estimate:
        return f"~{field.text(float(value))}"
    return value if isinstance(value, str) else field.text(value)


def sort_value(field: Field, request: RequestView, t_ns: int) -> tuple[bool, float | str]:
    """A key that orders requests by `field`; those that have no value come first."""
    value = field.value(request, t_ns)
    if value is None:
        return (False, "" if field.is_word else 0.0)
    return (True, value)
