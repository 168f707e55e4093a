"""A comparison as Markdown, for a terminal, a file or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from llmtop.compare import words
from llmtop.format import NONE, grouped, milliseconds
from llmtop.sanitize import clean_line
from profiler.compare.comparison import Comparison, Side
from profiler.compare.regressions import Regression

_LATENCY: Final = "e2el"


def markdown(comparison: Comparison) -> str:
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    for gate in comparison.gates:
        yield f"- {gate.outcome}: `{gate.text}`"
    if comparison.gates:
        yield ""
    yield from _table(("", "A", "B"), _sides(comparison.a, comparison.b))
    yield ""
    yield f"{words.aligned(comparison)}."
    yield ""
    yield from _metrics(comparison)
    yield from _config(comparison)
    yield from _regressions(comparison)
    yield ""
    yield from (f"- {note}" for note in words.notes(comparison))


def _sides(a: Side, b: Side) -> list[tuple[str, ...]]:
    rows = (
        ("file", words.file_name),
        ("model", lambda side: clean_line(side.model) or NONE),
        ("device", lambda side: clean_line(side.device) or NONE),
        ("began", words.began),
        ("lasted", words.lasted),
        ("requests", lambda side: grouped(side.workload.requests)),
        ("prompt tokens p50 / p95", lambda side: words.spread(side.workload.prompt_tokens)),
        ("output tokens p50 / p95", lambda side: words.spread(side.workload.output_tokens)),
        ("arrivals", words.arrivals),
    )
    return [(name, text(a), text(b)) for name, text in rows]


def _metrics(comparison: Comparison) -> Iterator[str]:
    rows = [
        (
            words.title(row),
            words.amount(row.a, row.unit),
            words.amount(row.b, row.unit),
            words.change(row),
            words.bounds(row),
            words.judged(row),
        )
        for row in words.shown_rows(comparison)
    ]
    yield from _table(("metric", "A", "B", "change", "95 % interval", "verdict"), rows, "lrrrrl")


def _config(comparison: Comparison) -> Iterator[str]:
    yield ""
    if not comparison.config:
        yield "The settings are the same."
        return
    rows = [
        (clean_line(change.name), _setting(change.a), _setting(change.b))
        for change in comparison.config
    ]
    yield from _table(("setting", "A", "B"), rows)


def _setting(value: object) -> str:
    return NONE if value is None else clean_line(str(value))


def _regressions(comparison: Comparison) -> Iterator[str]:
    worst = [pair for pair in comparison.regressions if pair.latency == _LATENCY]
    if not worst:
        return
    yield ""
    head = ("slower request", "in B", "prompt tokens", "A e2el ms", "B e2el ms", "change ms")
    yield from _table(head, [_regression(pair) for pair in worst], "llrrrr")


def _regression(pair: Regression) -> tuple[str, ...]:
    return (
        clean_line(pair.name_a),
        clean_line(pair.name_b),
        grouped(pair.prompt_tokens),
        milliseconds(pair.a_ms),
        milliseconds(pair.b_ms),
        f"+{milliseconds(pair.change_ms)}",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str = "lll") -> Iterator[str]:
    """Columns in line, so that it reads well as it stands; `sides` has l or r a column."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    lines = [
        [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ]
        for row in cells
    ]
    rule = ["-" * (w - 1) + (":" if s == "r" else "-") for w, s in zip(widths, sides, strict=True)]
    for line in (lines[0], rule, *lines[1:]):
        yield f"| {' | '.join(line)} |"
