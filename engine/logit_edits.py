"""Changes to single logits before sampling: biases, and ends that come too early."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor

from engine.sequence import Sequence


class LogitEdits:
    """Lists of rows, tokens and addends, gathered on the host and applied at once."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._tokens: list[int] = []
        self._addends: list[float] = []

    @classmethod
    def of(cls, sequences: SequenceOf[Sequence]) -> LogitEdits | None:
        """The edits of one step's sampling rows; None if there are none."""
        edits = cls()
        for row, sequence in enumerate(sequences):
            if sequence.edits_logits:
                edits._gather(row, sequence)
        return edits if edits._rows else None

    def apply(self, logits: Tensor) -> None:
        """Adds to `logits` (S, V) in place."""
        columns = (
            torch.tensor(self._rows),
            torch.tensor(self._tokens),
            torch.tensor(self._addends, dtype=logits.dtype),
        )
        rows, tokens, addends = (c.to(logits.device, non_blocking=True) for c in columns)
        logits.index_put_((rows, tokens), addends, accumulate=True)

    def _gather(self, row: int, sequence: Sequence) -> None:
        params = sequence.params
        for token, bias in params.logit_bias.items():
            self._add(row, token, bias)
        if sequence.num_sampled < params.min_tokens:
            for token in sequence.end_ids:
                self._add(row, token, float("-inf"))

    def _add(self, row: int, token: int, addend: float) -> None:
        self._rows.append(row)
        self._tokens.append(token)
        self._addends.append(addend)
