"""Sampling against the plain definition of each setting."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from engine.config import SamplingParams
from engine.logprobs import logprobs_of
from engine.penalties import Penalties
from engine.plan import PlanRow
from engine.random_numbers import uniform
from engine.request import EngineRequest
from engine.sampling import SamplingStep, argmax, sample
from engine.sequence import Sequence


def sequence(number: int = 1, prompt: tuple[int, ...] = (1, 2), output: tuple[int, ...] = (), **p):
    settings = SamplingParams(**p)
    seed = settings.seed if settings.seed is not None else number
    request = EngineRequest(number, "", prompt, settings, eos_token_ids=(0,))
    made = Sequence(request, 1000, seed, (0, number), 16)
    made.token_ids.extend(output)
    made.num_pending = 1
    return made


def run(logits: torch.Tensor, *sequences: Sequence) -> list[int]:
    rows = [PlanRow(s, len(s.token_ids) - 1, 1, True) for s in sequences]
    penalties = Penalties(len(rows), logits.shape[-1], 1000, logits.device)
    for seat, row in enumerate(sequences):
        row.seat = row.admission = seat
    own = penalties.of(sequences, torch.arange(len(rows)))
    step = SamplingStep.of(rows, logits.shape[-1], own)
    before = logits.clone()
    tokens = sample(logits, step).tolist()
    assert torch.equal(logits, before)
    return tokens


def kept_by_definition(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The distribution after temperature, min-p, top-k and top-p, by a full sort; (V,) fp64."""
    probs = (logits.double() / params.temperature).softmax(-1)
    probs[probs < params.min_p * probs.max()] = 0
    order = probs.argsort(descending=True, stable=True)
    if params.top_k:
        probs[order[params.top_k :]] = 0
    probs /= probs.sum()
    if params.top_p < 1:
        before = probs[order].cumsum(0) - probs[order]
        probs[order[before >= params.top_p]] = 0
    return probs / probs.sum()


SETTINGS = [
    {},
    {"temperature": 0.4},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 700},
    {"top_p": 0.3},
    {"top_p": 0.95},
    {"min_p": 0.1},
    {"temperature": 30.0, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 40, "top_p": 0.8, "min_p": 0.02},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_follow_the_definition(settings):
    torch.manual_seed(0)
    logits = torch.randn(1000) * 2
    params = SamplingParams(**settings)
    wanted = kept_by_definition(logits, params)
    count = 4000
    rows = logits.expand(count, -1)
    counts = Counter(run(rows, *[sequence(n, **settings) for n in range(count)]))
    assert all(wanted[token] > 0 for token in counts)
    for token in wanted.topk(3).indices.tolist():
        p = wanted[token].item()
        sigma = math.sqrt(p * (1 - p) / count)
        assert abs(counts[token] / count - p) < 5 * sigma + 1e-9


def test_the_token_is_the_one_at_the_drawn_share():
    torch.manual_seed(1)
    logits = torch.randn(64, 777) * 3
    sequences = [sequence(n) for n in range(64)]
    ends = logits.double().softmax(-1).cumsum(-1)
    shares = torch.tensor([uniform(n, 0) for n in range(64)], dtype=torch.float64)
    wanted = torch.searchsorted(ends, shares[:, None], right=True)[:, 0]
    assert run(logits, *sequences) == wanted.tolist()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_batch_does_not_matter(settings):
    torch.manual_seed(2)
    logits = torch.randn(32, 5000).bfloat16()  # bf16 has many ties
    rows = [sequence(n, seed=n, **settings) for n in range(32)]
    mixed = [row if i % 3 else sequence(i, temperature=0.0) for i, row in enumerate(rows)]
    together = run(logits, *rows)
    alone = [run(logits[i : i + 1], row)[0] for i, row in enumerate(rows)]
    assert together == alone
    among_others = run(logits, *mixed)
    assert [t for i, t in enumerate(among_others) if i % 3] == [
        t for i, t in enumerate(together) if i % 3
    ]


def test_seed_and_position_decide_the_number():
    assert uniform(1, 2) == uniform(1, 2)
    numbers = {uniform(seed, position) for seed in range(-50, 50) for position in range(50)}
    assert len(numbers) == 5000
    assert 0 <= min(numbers) < 0.01
    assert 0.99 < max(numbers) < 1
    assert abs(sum(numbers) / 5000 - 0.5) < 0.02


def test_a_flat_distribution_needs_the_whole_row():
    logits = torch.zeros(3, 5000)
    rows = [sequence(n, top_p=0.9) for n in (1, 2)] + [sequence(3, top_k=3000, top_p=0.5)]
    shares = [uniform(n, 0) for n in (1, 2, 3)]
    # Equal logits are kept alike, so a nucleus of a flat row is the whole row.
    assert run(logits, *rows) == [int(share * 5000) for share in shares]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_argmax_is_torchs(dtype, shift):
    torch.manual_seed(3)
    logits = (torch.randn(16, 3001) + shift).to(dtype)
    logits[3] = 0.0
    logits[4] = -0.0
    logits[5, 100] = float("inf")
    largest = logits.gather(1, argmax(logits)[:, None])
    assert torch.equal(largest[:, 0], logits.max(-1).values)
    assert argmax(logits[:0]).tolist() == []


def test_greedy_takes_the_likeliest_whatever_else_is_set():
    logits = torch.randn(1, 1000)
    wanted = [logits.argmax().item()]
    assert run(logits, sequence(temperature=0.0, top_k=3, top_p=0.1, seed=7)) == wanted
    assert run(logits, sequence(temperature=1e-7)) == wanted


def test_repetition_penalty_divides_or_multiplies():
    logits = torch.tensor([[0.0, 4.0, -1.0, 3.0, -1.5]])
    greedy = {"temperature": 0.0, "repetition_penalty": 2.0}
    assert run(logits, sequence(prompt=(1,), **greedy)) == [3]
    assert run(logits, sequence(prompt=(1,), output=(3,), **greedy)) == [1]
    negative = torch.tensor([[-1.0, -1.5]])
    assert run(negative, sequence(prompt=(0,), **greedy)) == [1]


def test_presence_and_frequency_count_the_output_alone():
    logits = torch.tensor([[0.0, 3.0, 2.5, 1.2]])
    assert run(logits, sequence(prompt=(1,), temperature=0.0, presence_penalty=1.0)) == [1]
    once = {"prompt": (0,), "output": (1,), "temperature": 0.0}
    assert run(logits, sequence(**once, presence_penalty=1.0)) == [2]
    twice = {"prompt": (0,), "output": (1, 2, 1, 2), "temperature": 0.0}
    assert run(logits, sequence(**twice, frequency_penalty=0.5)) == [1]
    assert run(logits, sequence(**twice, frequency_penalty=1.0)) == [3]


def test_counts_follow_a_growing_output():
    logits = torch.tensor([[0.0, 3.0, 2.9, 2.8]])
    row = sequence(prompt=(0,), temperature=0.0, presence_penalty=1.0)
    taken = []
    for _ in range(4):
        (token,) = run(logits, row)
        taken.append(token)
        row.token_ids.append(token)
    assert taken == [1, 2, 3, 1]


def test_logit_bias_and_min_tokens():
    logits = torch.tensor([[5.0, 3.0, 2.0]])
    assert run(logits, sequence(temperature=0.0)) == [0]
    assert run(logits, sequence(temperature=0.0, logit_bias={2: 10.0})) == [2]
    assert run(logits, sequence(temperature=0.0, logit_bias={0: -100.0})) == [1]
    early = {"temperature": 0.0, "min_tokens": 1, "stop_token_ids": (1,)}
    assert run(logits, sequence(**early)) == [2]
    assert run(logits, sequence(**early, output=(2,))) == [0]
    assert run(logits, sequence(temperature=0.0, min_tokens=1, ignore_eos=True)) == [0]


def test_logprobs_are_of_the_models_own_distribution():
    torch.manual_seed(4)
    logits = torch.randn(3, 500)
    tokens = torch.tensor([7, logits[1].argmax().item(), 9])
    entries = logprobs_of(logits, tokens, 5).entries([5, 2, 0])
    wanted = logits.double().log_softmax(-1)
    for row, (entry, count) in enumerate(zip(entries, (5, 2, 0), strict=True)):
        assert entry.token_id == tokens[row]
        assert entry.logprob == pytest.approx(wanted[row, entry.token_id].item(), abs=1e-5)
        assert entry.rank == 1 + (logits[row] > logits[row, entry.token_id]).sum()
        best = wanted[row].topk(5)
        assert [t for t, _ in entry.top] == best.indices[:count].tolist()
        assert [p for _, p in entry.top] == pytest.approx(best.values[:count].tolist(), abs=1e-5)
    assert entries[1].rank == 1
