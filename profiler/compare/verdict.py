"""What a difference comes to, in a word."""

from __future__ import annotations

from typing import Final, Literal

from profiler.compare.bootstrap import Interval

Verdict = Literal["better", "worse", "no difference shown", "too few"]
TOO_FEW: Final[Verdict] = "too few"


def verdict(better: Literal["lower", "higher"], difference: Interval | None) -> Verdict:
    """`difference` is B's value less A's; without one there were too few to tell."""
    if difference is None:
        return TOO_FEW
    if difference.low <= 0 <= difference.high:
        return "no difference shown"
    return "better" if (difference.low > 0) == (better == "higher") else "worse"
