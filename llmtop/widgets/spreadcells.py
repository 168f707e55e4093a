"""A latency as a histogram tells it, in columns."""

from __future__ import annotations

from typing import Final

from llmtop.format import milliseconds, short
from llmtop.widgets.rows import Row, Span
from profiler.foreign.spread import Quantile, Spread

NAME: Final = 8
COLUMN: Final = 10


def head() -> Row:
    words = ("n", "mean", "p50", "p95", "p99")
    names = "".join(word.rjust(COLUMN) for word in words)
    return (("ms".ljust(NAME) + names, "dim"),)


def cells(spread: Spread) -> Span:
    """As `head` names them."""
    shares = [quantile_text(spread.quantile(share)) for share in (0.5, 0.95, 0.99)]
    texts = [short(spread.n), milliseconds(spread.mean_s * 1e3), *shares]
    return "".join(text.rjust(COLUMN) for text in texts), "value"


def quantile_text(found: Quantile, width: int = COLUMN) -> str:
    """In ms: `~` is an estimate between two edges, `<` below the first and `>` beyond the last. In
    seconds, with their unit, where `width` cells do not hold it."""
    sign, value_s = _signed(found)
    text = f"{sign}{milliseconds(value_s * 1e3)}"
    return text if len(text) <= width else f"{sign}{short(round(value_s, 1))}s"


def _signed(found: Quantile) -> tuple[str, float]:
    if found.high_s is None:
        return ">", found.low_s
    if found.guess_s is None:
        return "<", found.high_s
    return "~", found.guess_s
