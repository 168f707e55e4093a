"""Penalties counted on the device against their definition."""

from __future__ import annotations

import random

import pytest
import torch

from engine.config import SamplingParams
from engine.penalties import Penalties, StepPenalties
from engine.request import EngineRequest
from engine.sequence import Sequence

VOCAB = 40
PENALTIES = (
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6, "presence_penalty": -0.5},
    {"frequency_penalty": 0.3},
    {"presence_penalty": 1.5, "frequency_penalty": -0.25},
)


def sequence(seat: int, prompt: list[int], admission: int = 0, **params: float) -> Sequence:
    request = EngineRequest(seat, "", tuple(prompt), SamplingParams(**params), eos_token_ids=(0,))
    made = Sequence(request, 1000, 0, (0, seat), 16)
    made.seat, made.admission = seat, admission
    return made


def penalties_of(num_seats: int) -> Penalties:
    return Penalties(num_seats, VOCAB, 100, torch.device("cpu"))


def step(penalties: Penalties, *sequences: Sequence) -> StepPenalties:
    own = penalties.of(sequences, torch.tensor([one.seat for one in sequences]))
    assert own is not None
    return own


def by_definition(logits: list[float], one: Sequence) -> list[float]:
    params, output = one.params, one.token_ids[one.num_prompt :]
    changed = []
    for token, logit in enumerate(logits):
        if token in one.token_ids:
            factor = params.repetition_penalty
            logit = logit / factor if logit > 0 else logit * factor
        if token in output:
            logit -= params.presence_penalty + params.frequency_penalty * output.count(token)
        changed.append(logit)
    return changed


def wanted(logits: torch.Tensor, *sequences: Sequence) -> torch.Tensor:
    pairs = zip(logits.tolist(), sequences, strict=True)
    return torch.tensor([by_definition(own, one) for own, one in pairs])


def test_counts_kept_step_by_step_give_what_the_definition_says() -> None:
    """Of requests of unlike lengths, in seats that lie mixed."""
    draw = random.Random(0)
    rows = [
        sequence(seat, draw.choices(range(VOCAB), k=draw.randint(1, 30)), **PENALTIES[seat % 4])
        for seat in draw.sample(range(20), 13)
    ]
    penalties = penalties_of(20)
    torch.manual_seed(0)
    for _ in range(12):
        logits = torch.randn(len(rows), VOCAB) * 3
        want, own = wanted(logits, *rows), step(penalties, *rows)
        own.apply(logits)
        torch.testing.assert_close(logits, want)
        tokens = draw.choices(range(VOCAB), k=len(rows))
        own.keep(torch.tensor(tokens))
        for row, token in zip(rows, tokens, strict=True):
            row.token_ids.append(token)


def test_tokens_that_the_host_does_not_know_yet_count() -> None:
    row = sequence(0, [1, 2], repetition_penalty=2.0, frequency_penalty=0.5)
    penalties = penalties_of(1)
    for token in (7, 8, 7):
        row.num_pending += 1
        step(penalties, row).keep(torch.tensor([token]))
    row.num_pending += 1
    logits = torch.randn(1, VOCAB)
    known = sequence(0, [1, 2], repetition_penalty=2.0, frequency_penalty=0.5)
    known.token_ids += [7, 8, 7]
    want = wanted(logits, known)
    step(penalties, row).apply(logits)
    torch.testing.assert_close(logits, want)


def test_who_comes_back_finds_what_it_had_seen() -> None:
    """After a preemption its prompt and output are both known."""
    row = sequence(0, [3, 3], admission=1, repetition_penalty=2.0, frequency_penalty=1.0)
    row.token_ids += [5, 5, 7]
    logits = torch.ones(1, VOCAB)
    want = wanted(logits, row)
    step(penalties_of(1), row).apply(logits)
    torch.testing.assert_close(logits, want)


@pytest.mark.parametrize("params", [{}, {"repetition_penalty": 1.2}])
def test_a_seat_forgets_who_sat_there(params: dict[str, float]) -> None:
    """The one before had seen more tokens, which still stand behind those of the one after."""
    penalties = penalties_of(2)
    beside = sequence(0, list(range(30)), repetition_penalty=1.5)
    before = sequence(1, list(range(VOCAB)), admission=0, repetition_penalty=3.0)
    step(penalties, beside, before).keep(torch.tensor([4, 4]))
    beside.token_ids.append(4)
    after = sequence(1, [6], admission=1, **params)
    logits = torch.randn(2, VOCAB)
    want = wanted(logits, beside, after)
    step(penalties, beside, after).apply(logits)
    torch.testing.assert_close(logits, want)


def test_rows_without_penalties_stay_bit_for_bit() -> None:
    plain, other = sequence(0, [5, 6, 7]), sequence(1, [5, 6, 7], repetition_penalty=1.5)
    logits = torch.randn(2, VOCAB)
    logits[:, 5], logits[:, 0] = float("-inf"), -0.0
    before, own = logits.clone(), step(penalties_of(2), plain, other)
    own.apply(logits)
    assert logits[0].view(torch.int32).equal(before[0].view(torch.int32))
    assert not logits[1].equal(before[1])


def test_a_step_in_which_nobody_has_any_is_left_alone() -> None:
    assert penalties_of(1).of([sequence(0, [1])], torch.tensor([0])) is None
