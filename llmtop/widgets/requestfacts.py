"""The head of a request's own page: what it asked for and how long it waited for what."""

from __future__ import annotations

from llmtop.columns import itl_p95_ms, output_tokens, phase_of
from llmtop.format import NONE, grouped, milliseconds, ns_as_ms, short, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, flowed
from llmtop.widgets.timeline import ROLES
from profiler.events import RequestAnswered
from profiler.folds.request_view import RequestView


def fact(name: str, value: str, unit: str = "") -> Row:
    """`name value unit` in the panel's usual colours."""
    tail = f" {unit}" if unit else ""
    return ((f"{name} ", "dim"), (value, "value"), (tail, "dim"))


class RequestFacts(Panel):
    about = "What the request asked for, what it got, and its latencies."
    own_keys = ("up: previous request", "down: next request", "copy", "back: where you came from")

    def title(self, view: View) -> Row:
        request = view.request
        name = "gone" if request is None else request.name
        return (("Request ", "dim"), (name, "title"))

    def note(self, view: View) -> str:
        return f"{view.model.keymap.shown('back')} back, ↑ ↓ another request, ← → another token"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        if request is None:
            return [(("this request is not among the newest that are kept", "dim"),)]
        groups = (_tokens(request), _latencies(request), _rest(request))
        return [line for parts in groups for line in flowed(parts, width, "   ")][:height]


def _tokens(request: RequestView) -> list[Row]:
    block = fact("prompt", grouped(request.num_prompt_tokens), "tokens")
    hit = fact("cached", grouped(request.cached_tokens))
    most = "" if request.max_tokens is None else f"of at most {request.max_tokens}"
    out = fact("output", output_tokens(request), most)
    pages = fact("KV pages", grouped(request.num_pages))
    role = "bad" if request.was_aborted else ROLES[request.phase]
    phase: Row = ((phase_of(request), role),)
    return [phase, block, hit, out, pages]


def _latencies(request: RequestView) -> list[Row]:
    tpot_ns = request.tpot_ns
    return [
        fact("queue", ns_as_ms(request.queue_ns), "ms"),
        fact("ttft", ns_as_ms(request.ttft_ns), "ms"),
        fact("tpot", milliseconds(None if tpot_ns is None else tpot_ns / 1e6), "ms"),
        fact("itl p95", milliseconds(itl_p95_ms(request)), "ms"),
        fact("e2el", ns_as_ms(request.e2el_ns), "ms"),
        fact("speed", short(request.tokens_per_s), "tok/s"),
    ]


def _rest(request: RequestView) -> list[Row]:
    facts: list[Row] = [
        fact("finish", request.finish_reason or NONE),
        fact("preempted", NONE if request.is_foreign else f"{request.preemptions}x"),
        fact("priority", NONE if request.is_foreign else str(request.priority)),
    ]
    if request.answer is not None:
        facts += _answer(request.answer)
    if request.sampling:
        facts.append(fact("sampling", request.sampling))
    return facts


def _answer(answer: RequestAnswered) -> list[Row]:
    """What another server's answer was."""
    facts = [
        fact("status", str(answer.status) if answer.status else NONE),
        fact("answer", size(answer.num_bytes)),
    ]
    if answer.finish_reason:
        facts.append(fact("server's reason", clean_line(answer.finish_reason)))
    return facts
