"""What a metric is held to, as a person writes it: `ttft_p99<500ms`, or `itl_p95>+5%`."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

import msgspec

from profiler.errors import ConditionError
from profiler.metrics import METRICS, Metric, Values

_FORM: Final = re.compile(
    r"\s*(?P<metric>[a-z0-9_]+)\s*(?P<op><=|>=|<|>|≤|≥)\s*"
    r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-zµ/%]*)\s*"
)
_OPERATORS: Final = {"≤": "<=", "≥": ">="}
# Factors to the metric's own unit; "" leaves the number as it is.
_UNITS: Final[dict[str, dict[str, float]]] = {
    "ms": {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3},
    "tok/s": {"": 1.0, "tok/s": 1.0},
    "req/s": {"": 1.0, "req/s": 1.0},
    "%": {"": 1.0, "%": 1.0},
    "": {"": 1.0},
}
_HINT: Final = "write ttft_p99<500ms, tok_s>100 or, between two runs, itl_p95>+5%"


class Condition(msgspec.Struct, frozen=True):
    """`metric op bound`, the bound in the metric's own unit; `relative`, it is a change in percent
    of another run's value, with its sign."""

    metric: str
    op: str
    bound: float
    relative: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` (a change in percent for a relative condition) is as it says."""
        if self.op == "<":
            return value < self.bound
        if self.op == "<=":
            return value <= self.bound
        return value > self.bound if self.op == ">" else value >= self.bound

    @property
    def unit(self) -> str:
        return "%" if self.relative else METRICS[self.metric].unit

    def __str__(self) -> str:
        """As it can be parsed again."""
        sign = "+" if self.relative else ""
        return f"{self.metric}{self.op}{self.bound:{sign}.12g}{self.unit}"


class Judgement(msgspec.Struct, frozen=True):
    """A condition and the value that it was held against, None where there was none."""

    condition: Condition
    value: float | None

    @property
    def met(self) -> bool | None:
        """Whether the condition holds; None without a value."""
        return None if self.value is None else self.condition.holds(self.value)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.condition}: not available{_why(self.condition.metric)}"
        return f"{self.condition}: {self.value:.4g} {self.condition.unit}".rstrip()


def _why(metric: str) -> str:
    return ", p99 needs 100 values" if metric.endswith("_p99") else ""


def parse_condition(text: str, relative: bool = False) -> Condition:
    """The condition in `text`. Only with `relative` may the bound be a change such as +5%.

    Raises: ConditionError.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConditionError(f"{text.strip()!r} is no condition", _HINT)
    metric = _metric(found["metric"])
    op, number = _OPERATORS.get(found["op"], found["op"]), float(found["number"])
    if found["sign"]:
        if not relative or found["unit"] != "%":
            raise ConditionError(f"{text.strip()!r}: a signed bound is a change in percent", _HINT)
        return Condition(metric.name, op, -number if found["sign"] == "-" else number, True)
    factor = _UNITS[metric.unit].get(found["unit"])
    if factor is None:
        unit = metric.unit or "a plain number"
        raise ConditionError(f"{text.strip()!r}: {metric.name} is in {unit}", _HINT)
    return Condition(metric.name, op, number * factor)


def parse_conditions(text: str, relative: bool = False) -> tuple[Condition, ...]:
    """One or more, with commas between. Raises: ConditionError."""
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise ConditionError("there is no condition", _HINT)
    return tuple(parse_condition(part, relative) for part in parts)


def _metric(name: str) -> Metric:
    metric = METRICS.get(name)
    if metric is None:
        near = get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"such as {', '.join(list(METRICS)[:3])}"
        raise ConditionError(f"there is no metric {name!r}", hint)
    return metric


def judge(conditions: tuple[Condition, ...], values: Values) -> list[Judgement]:
    """Each condition with its value."""
    return [Judgement(condition, values.get(condition.metric)) for condition in conditions]
