"""Changes to single logits before sampling: penalties, biases, and ends that come too early."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import torch
from torch import Tensor

from engine.sequence import Sequence
from engine.token_counts import TokenCounts


class LogitEdits:
    """Lists of (row, token, number), gathered on the host and applied at once.

    Source: repetition penalty as in CTRL (Keskar et al. 2019), over prompt and output; presence
    and frequency penalty as in OpenAI's API, over the output alone.
    """

    def __init__(self) -> None:
        self._factors: tuple[list[int], list[int], list[float]] = ([], [], [])
        self._addends: tuple[list[int], list[int], list[float]] = ([], [], [])

    @classmethod
    def of(cls, sequences: SequenceOf[Sequence]) -> LogitEdits | None:
        """The edits of one step's sampling rows; None if there are none."""
        edits = cls()
        for row, sequence in enumerate(sequences):
            if sequence.edits_logits:
                edits._gather(row, sequence)
        return edits if edits._factors[0] or edits._addends[0] else None

    def apply(self, logits: Tensor) -> None:
        """Changes `logits` (S, V) in place: divisors first, then addends."""
        if self._factors[0]:
            rows, tokens, factors = _columns(self._factors, logits)
            values = logits[rows, tokens]
            logits[rows, tokens] = torch.where(values > 0, values / factors, values * factors)
        if self._addends[0]:
            rows, tokens, addends = _columns(self._addends, logits)
            logits.index_put_((rows, tokens), addends, accumulate=True)

    def _gather(self, row: int, sequence: Sequence) -> None:
        params = sequence.params
        if sequence.has_penalties:
            self._gather_penalties(row, sequence)
        for token, bias in params.logit_bias.items():
            self._add(row, token, bias)
        if sequence.num_output < params.min_tokens:
            for token in sequence.end_ids:
                self._add(row, token, float("-inf"))

    def _gather_penalties(self, row: int, sequence: Sequence) -> None:
        params = sequence.params
        if sequence.counts is None:
            sequence.counts = TokenCounts(sequence.token_ids, sequence.num_prompt)
        counts = sequence.counts
        counts.catch_up()
        if params.repetition_penalty != 1.0:
            rows, tokens, factors = self._factors
            rows.extend([row] * len(counts.seen))
            tokens.extend(counts.seen)
            factors.extend([params.repetition_penalty] * len(counts.seen))
        presence, frequency = params.presence_penalty, params.frequency_penalty
        if presence or frequency:
            for token, count in counts.output.items():
                self._add(row, token, -presence - frequency * count)

    def _add(self, row: int, token: int, addend: float) -> None:
        rows, tokens, addends = self._addends
        rows.append(row)
        tokens.append(token)
        addends.append(addend)


def _columns(
    lists: tuple[list[int], list[int], list[float]], logits: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rows, tokens, numbers = lists
    device = logits.device
    return (
        torch.tensor(rows, device=device),
        torch.tensor(tokens, device=device),
        torch.tensor(numbers, device=device, dtype=logits.dtype),
    )
