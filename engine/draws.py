"""What decides the next token of each row, as a table that a device reads as it is."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.plan import PlanRow

SEED_MASK: Final = 2**64 - 1
# `inverse_temperature` 0 takes the likeliest token; `top_k` is 1 to the vocabulary's size, which is
# off, as are a `top_p` of 1 and a `min_logit` (log of min-p, below the largest logit) of -inf.
DRAW: Final = np.dtype(
    [
        ("seed", np.uint64),
        ("position", np.int64),
        ("inverse_temperature", np.float32),
        ("top_k", np.int32),
        ("top_p", np.float32),
        ("min_logit", np.float32),
    ]
)


def draws_of(rows: SequenceOf[PlanRow], vocab_size: int) -> npt.NDArray[np.void] | None:
    """One DRAW a row (S,), None if every row takes its likeliest token."""
    if not any(row.sequence.draws for row in rows):
        return None
    table = np.zeros(len(rows), DRAW)
    for place, row in enumerate(rows):
        if row.sequence.draws:
            table[place] = _draw(row, vocab_size)
    return table


def as_words(table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """The same bytes as (S, 4) int64, which is how kernels take them."""
    return table.view(np.int64).reshape(len(table), -1)


def _draw(row: PlanRow, vocab_size: int) -> tuple[int, int, float, int, float, float]:
    params = row.sequence.params
    return (
        row.sequence.seed & SEED_MASK,
        row.num_output,
        1.0 / params.temperature,
        min(params.top_k or vocab_size, vocab_size),
        params.top_p,
        np.log(params.min_p) if params.min_p else -np.inf,
    )
