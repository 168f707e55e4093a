"""What a comparison is held to, so that a machine can say no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from profiler.conditions import Condition, Judgement
from profiler.metrics import Values


class Gate(msgspec.Struct, frozen=True):
    """A condition that must not hold. Without a value, "not available", it is not passed either: a
    gate that looks at nothing would let everything through."""

    condition: str
    value: float | None
    text: str
    outcome: Literal["passed", "failed", "not available"]


def gates(conditions: Sequence[Condition], values_b: Values, change_pct: Values) -> list[Gate]:
    """A relative condition looks at the change in percent of A's value, another at B's value."""
    known = {True: change_pct, False: values_b}
    return [_gate(Judgement(c, known[c.relative].get(c.metric))) for c in conditions]


def _gate(judged: Judgement) -> Gate:
    outcome: Literal["failed", "passed"] = "failed" if judged.met else "passed"
    return Gate(
        str(judged.condition),
        judged.value,
        str(judged),
        "not available" if judged.met is None else outcome,
    )
