"""An evaluation as text: what was judged, then a row a format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llmtop.quality.table import HEADINGS, markdown, plain, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.quality.evaluation import FormatResult
    from engine.quality.subject import Subject


def as_table(subject: Subject, results: Sequence[FormatResult], as_markdown: bool = False) -> str:
    write = markdown if as_markdown else plain
    return f"{subject.describe()}\n\n{write(HEADINGS, rows_of(results))}"


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
