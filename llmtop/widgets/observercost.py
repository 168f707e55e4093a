"""What being observed costs, as rows."""

from __future__ import annotations

from typing import Final

from llmtop.format import grouped
from llmtop.widgets.rows import EMPTY, Row, flowed
from llmtop.widgets.wrapping import wrapped
from profiler.compare.bootstrap import Interval
from profiler.events import MAX_TURN_NS, NUM_TURNS, SETTLE_NS, TURN_NS, TURN_STEPS, ObserverCost
from profiler.observer_cost import MIN_PAIRS, CostEstimate, estimate, pairs_of

_NO_MORE: Final = {"idle": "the engine came to rest", "done": "the time is up"}
_WHY_TOO_FEW: Final = {
    "idle": "requests have to be under way all the time: start a load, then measure again",
    "done": "a step took longer than"
    f" {(MAX_TURN_NS - SETTLE_NS) / TURN_STEPS / 1e6:.0f} ms, or a prompt came too often:"
    " measure again with fewer or longer answers",
}
_LESS_THAN_NOTHING: Final = (
    "no step is faster for being told of: other work on this machine is in these numbers,"
    " measure again"
)
_NOTES: Final = (
    "a step lasts from the end of the one before to its own; only steps that decode are counted",
    "unobserved: no event is made, sent, folded or recorded; all are told at the turn's end",
    f"turns of {TURN_NS / 1e9:.1f} s, more where steps are slow, without the first"
    f" {SETTLE_NS / 1e9:.1f} s of each, in the order - + + -; medians over turns, intervals by"
    " bootstrap over pairs",
)


def observer_rows(event: ObserverCost, width: int) -> list[Row]:
    """How far the measurement is or how it ended, what came out, and how it was done."""
    found = estimate(event)
    rows = _result(found, width) if found else _too_few(event, width)
    notes = [row for note in _NOTES for row in lines_of(note, width, "dim")]
    return [*_progress(event, width), EMPTY, *rows, EMPTY, *notes]


def lines_of(text: str, width: int, role: str = "text") -> list[Row]:
    return [((line, role),) for line in wrapped(text, width)]


def _progress(event: ObserverCost, width: int) -> list[Row]:
    at = len(event.turns)
    if event.status in _NO_MORE:
        return lines_of(f"measured in {at} turns, then {_NO_MORE[event.status]}", width, "dim")
    kind = "as ever" if event.status == "observed" else "unobserved: the picture waits"
    return lines_of(f"measuring: turn {at + 1} of {NUM_TURNS}, {kind}", width, "value")


def _result(found: CostEstimate, width: int) -> list[Row]:
    low, high = found.share_interval
    cost = f"{_ms(found.cost_ns, '+')} ms a step, {100 * found.share:+.2f} % of it"
    percent = f"95 % interval {100 * low:+.2f} to {100 * high:+.2f} %"
    span = f"({_span(found.cost_interval_ns)} ms)"
    sure = "" if low > 0 else _LESS_THAN_NOTHING if high < 0 else "not to be told from chance"
    rows: list[list[Row]] = [
        [((f"unobserved  {_ms(found.unobserved_ns)} ms a step", "text"),), _of(found, False)],
        [((f"observed    {_ms(found.observed_ns)} ms a step", "text"),), _of(found, True)],
        [((f"cost        {cost}", "value"),), ((percent, "text"),), ((span, "dim"),)],
    ]
    lines = [line for parts in rows for line in flowed(parts, width)]
    return [*lines, *(lines_of(sure, width, "warn") if sure else ())]


def _of(found: CostEstimate, observed: bool) -> Row:
    num_steps = found.observed_steps if observed else found.unobserved_steps
    return ((f"{grouped(num_steps)} steps in {found.num_pairs} turns", "dim"),)


def _too_few(event: ObserverCost, width: int) -> list[Row]:
    have = len(pairs_of(event))
    text = f"{have} of at least {MIN_PAIRS} pairs of turns with {TURN_STEPS} steps that only decode"
    if event.status not in _NO_MORE:
        return lines_of(f"so far {text}", width)
    why = lines_of(_WHY_TOO_FEW[event.status], width)
    return [*lines_of(f"too few steps: {text}", width, "warn"), *why]


def _span(interval: Interval) -> str:
    return f"{_ms(interval.low, '+')} to {_ms(interval.high, '+')}"


def _ms(value_ns: float, sign: str = "") -> str:
    return f"{value_ns / 1e6:{sign}.3f}"
