"""How much of what happened met the objectives."""

from __future__ import annotations

from math import floor
from typing import Final, NamedTuple

from llmtop.format import NONE
from llmtop.viewmodel import View
from llmtop.widgets.rows import EMPTY, Row, Span
from profiler.conditions import Condition
from profiler.folds.latency import WINDOW_S
from profiler.live_metrics import attainment, live_value
from profiler.metrics import METRICS
from profiler.objectives import request_bounds

_WORDS: Final = {"good": "met", "bad": "missed", "dim": NONE}


class Attained(NamedTuple):
    """Two lengths of the same: each objective, and the worst of them."""

    whole: Row
    short: Row


def attained(view: View) -> Attained:
    if not view.objectives:
        return Attained(EMPTY, EMPTY)
    shares = {objective: attainment(view.state, objective) for objective in view.objectives}
    spans: list[Span] = [("SLO ", "dim")]
    for objective, share in shares.items():
        role = _role(view, objective)
        known = _percent(share) if _is_latency(objective) else _WORDS[role]
        spans += [(f"{objective} ", "text"), (f"{known} ", role)]
    return Attained((*spans, (f"in {WINDOW_S} s ", "dim")), _shortest(view, shares))


def _shortest(view: View, shares: dict[Condition, float | None]) -> Row:
    """The least share of all; with objectives on rates alone, whether all are met."""
    roles = [_role(view, objective) for objective in shares]
    role = next(role for role in ("bad", "good", "dim") if role in roles)
    if not any(map(_is_latency, shares)):
        return (("SLO ", "dim"), (f"{_WORDS[role]} ", role))
    least = min((share for share in shares.values() if share is not None), default=None)
    return (("SLO ", "dim"), (_percent(least), role), (f" in {WINDOW_S} s ", "dim"))


def _is_latency(objective: Condition) -> bool:
    return METRICS[objective.metric].unit == "ms"


def _percent(share: float | None) -> str:
    """Rounded down: 100.0% is all of them."""
    return NONE if share is None else f"{floor(1000 * share) / 10:.1f}%"


def _role(view: View, objective: Condition) -> str:
    """A p99 of too few values judges nobody."""
    value = live_value(view.state, objective.metric, request_bounds(view.objectives))
    return "dim" if value is None else "good" if objective.holds(value) else "bad"
