"""Results as lines: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.quality.evaluation import FormatResult

HEADINGS: Final = (
    "format",
    "bits",
    "held bits",
    "ratio",
    "perplexity",
    "ΔNLL",
    "KL",
    "KL p99",
    "top-1",
)


def rows_of(results: Iterable[FormatResult]) -> list[tuple[str, ...]]:
    return [
        (
            result.name,
            f"{result.bits:.2f}",
            f"{result.held_bits:.2f}",
            f"{result.ratio:.2f}x",
            f"{result.quality.perplexity:.3f}",
            _with_error(result.quality.delta_nll, result.quality.delta_nll_se),
            f"{result.quality.kl_mean:.5f}",
            f"{result.quality.kl_p99:.4f}",
            f"{100 * result.quality.top1:.2f} %",
        )
        for result in results
    ]


def timed(
    headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], decode_us: Sequence[float]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Both with what attention of all layers takes in a step."""
    with_time = zip(rows, decode_us, strict=True)
    return (*headings, "decode us"), [(*row, f"{us:.0f}") for row, us in with_time]


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return "\n".join(_line(row, widths) for row in (headings, *rows))


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((first, *rest)).rstrip()


def _with_error(value: float, error: float | None) -> str:
    return f"{value:+.4f}" if error is None else f"{value:+.4f} ± {error:.4f}"
