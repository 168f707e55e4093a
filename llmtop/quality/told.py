"""An evaluation as text: what was judged, then a row a format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llmtop.quality.table import HEADINGS, markdown, plain, rows_of, timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.quality.evaluation import FormatResult
    from engine.quality.subject import Subject


def as_table(
    subject: Subject,
    results: Sequence[FormatResult],
    as_markdown: bool = False,
    decode_us: Sequence[float] | None = None,
) -> str:
    """`decode_us` of a step's attention is a column more, where a GPU measured it."""
    write = markdown if as_markdown else plain
    headings: tuple[str, ...] = HEADINGS
    rows = rows_of(results)
    if decode_us is not None:
        headings, rows = timed(headings, rows, decode_us)
    return f"{subject.describe()}\n\n{write(headings, rows)}"


def to_json(subject: Subject, results: Sequence[FormatResult], **more: Any) -> str:
    facts = {
        "model": subject.model,
        "text": subject.text.name,
        "text_sha256": subject.text.sha256,
        "window_tokens": subject.length,
        "num_windows": len(subject.windows),
        "dtype": subject.dtype_name,
        **more,
        "formats": results,
    }
    return msgspec.json.format(msgspec.json.encode(facts), indent=2).decode()
