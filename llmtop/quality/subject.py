"""The model and the text that a command's options name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.quality.evaluation import Candidate, FormatResult
    from engine.quality.subject import Subject
    from llmtop.quality.bar import Bar


def subject_of(
    model: str | None,
    text_file: str | None,
    window: int,
    num_tokens: int,
    dtype: str,
    num_sinks: int,
    bar: Bar,
) -> Subject:
    """Raises: EngineError; click.UsageError also for a window in which no token would see a packed
    page: every format would be perfect."""
    from engine.config import EngineConfig
    from engine.quality.cached import CacheShape
    from engine.quality.subject import load_subject
    from engine.quality.text import default_text, read_text
    from llmtop.paths import cache_dir

    count = num_tokens // window
    if count < 1:
        raise click.UsageError(f"--tokens {num_tokens} is less than one --window of {window}")
    unpacked = CacheShape().block_size * (num_sinks + 1)
    if window <= unpacked:
        raise click.UsageError(
            f"a --window of {window} packs nothing that is read: the first {unpacked} tokens are "
            "seen as they were written"
        )
    text = default_text() if text_file is None else read_text(Path(text_file))
    name = model or EngineConfig().model
    return load_subject(name, cache_dir(), text, window, count, dtype, bar.phase)


def judged(subject: Subject, candidates: Sequence[Candidate], bar: Bar) -> list[FormatResult]:
    """One result a candidate, on all of the subject's windows. Raises: EngineError."""
    from engine.quality.evaluation import evaluate

    told = bar.counting("evaluating", "windows")
    return evaluate(subject.decoder, subject.backend, candidates, subject.windows, told)
