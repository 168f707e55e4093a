"""Penalties for tokens that a request has seen, counted where its logits are."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Final, NamedTuple

import torch
from torch import Tensor

from engine.sequence import Sequence

# What is kept of a token: how often it was put out, and this bit if the prompt has it.
IN_PROMPT: Final = 1 << 24
COUNT: Final = IN_PROMPT - 1
NEVER: Final = -1
# What leaves logits as they are: repetition, presence, frequency.
NEUTRAL: Final = (1.0, 0.0, 0.0)


class Seats(NamedTuple):
    """What is known on the device of the request in each seat."""

    numbers: Tensor  # (seats, 3) fp32, as NEUTRAL
    seen: Tensor  # (seats, V) int32
    tokens: Tensor  # (seats, max_len) int32, prompt and output; beyond them whatever was there
    lengths: Tensor  # (seats,) int64

    @classmethod
    def empty(cls, num_seats: int, vocab_size: int, max_len: int, device: torch.device) -> Seats:
        ints = {"dtype": torch.int32, "device": device}
        return cls(
            torch.tensor([NEUTRAL], device=device).repeat(num_seats, 1),
            torch.zeros(num_seats, vocab_size, **ints),
            torch.zeros(num_seats, max_len, **ints),
            torch.zeros(num_seats, dtype=torch.int64, device=device),
        )

    def admit(self, sequence: Sequence) -> None:
        """Makes its seat its own, with all that it has seen."""
        seat, params, numbers = sequence.seat, sequence.params, NEUTRAL
        self.lengths[seat].zero_()
        if sequence.has_penalties:
            numbers = (
                params.repetition_penalty,
                params.presence_penalty,
                params.frequency_penalty,
            )
            self._learn(seat, sequence.token_ids, sequence.num_prompt)
        self.numbers[seat].copy_(torch.tensor(numbers), non_blocking=True)

    def _learn(self, seat: int, token_ids: list[int], num_prompt: int) -> None:
        tokens = torch.tensor(token_ids).to(self.seen.device, non_blocking=True)
        prompt, output = tokens[:num_prompt], tokens[num_prompt:]
        seen = self.seen[seat].zero_()
        seen.index_fill_(0, prompt, IN_PROMPT)
        seen.index_add_(0, output, torch.ones_like(output, dtype=seen.dtype))
        self.tokens[seat, : len(tokens)] = tokens
        self.lengths[seat].fill_(len(tokens))


class Penalties:
    """Of each seat: the tokens that its request has seen, and what that takes from their logits.

    The host names a request when it first samples from a seat. From then on the device counts, in
    the order in which steps run there, so the next step need not wait for the tokens of the last.

    Source: repetition penalty as in CTRL (Keskar et al. 2019), over prompt and output; presence
    and frequency penalty as in OpenAI's API, over the output alone.
    """

    def __init__(self, num_seats: int, vocab_size: int, max_len: int, device: torch.device) -> None:
        self._sizes = (num_seats, vocab_size, max_len, device)
        self._seats: Seats | None = None  # memory that most never need: from the first who does
        self._admissions = [NEVER] * num_seats

    def of(self, sequences: SequenceOf[Sequence], seats: Tensor) -> StepPenalties | None:
        """Those of a step that samples for these sequences, whose `seats` (S,) int64 are on the
        device; None if no sequence has any. One that has some must be in every such step."""
        penalised = [sequence for sequence in sequences if sequence.has_penalties]
        if not penalised:
            return None
        if self._seats is None:
            self._seats = Seats.empty(*self._sizes)
        for sequence in sequences:
            if self._admissions[sequence.seat] != sequence.admission:
                self._admissions[sequence.seat] = sequence.admission
                self._seats.admit(sequence)
        return StepPenalties(self._seats, seats, max(one.num_tokens for one in penalised))


class StepPenalties(NamedTuple):
    """The penalties of one step's rows, of which none has seen more than `most` tokens."""

    known: Seats
    seats: Tensor  # (S,) int64
    most: int

    def apply(self, logits: Tensor) -> None:
        """Changes `logits` (S, V) fp32 in place: divisors first, then what is taken away.

        A token that stands twice in a row is written twice, the same both times; so is one that
        another request left there.
        """
        numbers, seen, history, _ = self.known
        tokens = history[:, : self.most].index_select(0, self.seats).long()
        found = seen.view(-1).take(self.seats[:, None] * seen.shape[1] + tokens)
        repetition, presence, frequency = numbers[self.seats].unsqueeze(-1).unbind(1)
        divisor = torch.where(found != 0, repetition, 1.0)
        count = found & COUNT
        logit = logits.gather(1, tokens)
        logit = torch.where(logit > 0, logit / divisor, logit * divisor)
        logit -= torch.where(count > 0, presence, 0.0) + count * frequency
        logits.scatter_(1, tokens, logit)

    def keep(self, tokens: Tensor) -> None:
        """Remembers the tokens (S,) int64 that the rows have got."""
        _, seen, history, lengths = self.known
        ones = torch.ones_like(tokens)
        seen.view(-1).index_add_(0, self.seats * seen.shape[1] + tokens, ones.to(seen.dtype))
        ends = self.seats * history.shape[1] + lengths[self.seats]
        history.view(-1).index_copy_(0, ends, tokens.to(history.dtype))
        lengths.index_add_(0, self.seats, ones)
