"""Tokens sampled on the device: the kernel's are its reference's, and keep what the host keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from engine.draws import DRAW, as_words
from engine.kernels.sampling import kept_weights, reference, sample_rows
from engine.kernels.weights import uniform_of
from engine.random_numbers import uniform
from engine.sampling import Draws, threshold

OFF = (1.0, 0, 1.0, 0.0)
# Inverse temperature, top-k (0 is off), top-p, min-p.
SETTINGS = [
    (0.0, 0, 1.0, 0.0),
    OFF,
    (1.0, 5, 1.0, 0.0),
    (0.7, 0, 0.9, 0.0),
    (1.4, 50, 0.8, 0.05),
    (1.0, 1, 1.0, 0.0),
    (1.0, 0, 1e-6, 0.0),
    (1.0, 0, 1.0, 1.0),
]
SEEDS = [0, 2**64 - 1, 2**63 - 1, 2**63, 12345]


def table_of(settings: list[Any], vocab_size: int) -> np.ndarray[Any, Any]:
    table = np.zeros(len(settings), DRAW)
    for row, (scale, top_k, top_p, min_p) in enumerate(settings):
        limit = min(top_k or vocab_size, vocab_size)
        min_logit = np.log(min_p) if min_p else -np.inf
        table[row] = SEEDS[row % len(SEEDS)], row * 7, scale, limit, top_p, min_logit
    return table


def sampled(logits: torch.Tensor, table: np.ndarray[Any, Any]) -> list[int]:
    draws = torch.from_numpy(as_words(table))
    return sample_rows(logits, draws.to(logits.device)).tolist()


def check(logits: torch.Tensor, settings: list[Any] = SETTINGS) -> None:
    table = table_of(settings, logits.shape[1])
    before = logits.clone()
    assert sampled(logits, table) == reference(logits, table).tolist()
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(1, torch.float16), (17, torch.float32), (257, torch.float16), (1000, torch.float32)],
)
def test_tokens_equal_the_reference(device: Any, vocab_size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(vocab_size)
    check(torch.randn(len(SETTINGS), vocab_size, device=device).mul(3).to(dtype))


def test_rows_of_several_splits(device: Any) -> None:
    torch.manual_seed(0)
    settings = [SETTINGS[0], OFF, SETTINGS[4]]
    check(torch.randn(len(settings), 49152, device=device).mul(3), settings)


def test_ties_and_logits_of_minus_infinity(device: Any) -> None:
    torch.manual_seed(1)
    logits = torch.randn(len(SETTINGS), 300, device=device).round()
    logits[:, ::3] = float("-inf")
    check(logits)
    lone = torch.full((len(SETTINGS), 300), float("-inf"), device=device)
    lone[:, 123] = -5.0
    assert sampled(lone, table_of(SETTINGS, 300)) == [123] * len(SETTINGS)


def test_a_row_gets_the_same_token_in_any_batch(device: Any) -> None:
    torch.manual_seed(2)
    logits = torch.randn(len(SETTINGS), 500, device=device)
    table = table_of(SETTINGS, 500)
    for row, token in enumerate(sampled(logits, table)):
        assert sampled(logits[row : row + 1], table[row : row + 1]) == [token]


def test_the_kept_tokens_are_those_of_the_host() -> None:
    """Their thresholds are equal unless float32 and exact sums fall on two sides of top-p."""
    torch.manual_seed(3)
    settings = [row for row in SETTINGS if row[0] > 0] * 8
    table = table_of(settings, 700)
    logits = torch.randn(len(settings), 700).mul(3)
    draws = Draws.of(table)
    scaled = logits * draws.inverse_temperature[:, None]
    scaled = scaled - scaled.amax(-1, keepdim=True)
    host = scaled >= threshold(scaled, draws)[:, None]
    for row, draw in enumerate(table):
        limits = int(draw["top_k"]), float(draw["top_p"]), float(draw["min_logit"])
        kept = kept_weights(scaled[row], *limits) > 0
        differing = scaled[row].exp()[kept != host[row]].sum() / scaled[row].exp().sum()
        assert float(differing) <= 1e-6


def test_shares_of_tokens_follow_their_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]]).expand(400, 4)
    shares = torch.bincount(reference(logits, table_of([OFF] * 400, 4)), minlength=4) / 400
    wanted = torch.tensor([0.0, 1.0, 2.0, float("-inf")]).softmax(0)
    assert float((shares - wanted).abs().max()) < 0.1  # four standard deviations
    assert float(shares[3]) == 0.0


@triton.jit
def uniform_kernel(seeds, positions, out):
    row = tl.program_id(0)
    tl.store(out + row, uniform_of(tl.load(seeds + row), tl.load(positions + row)))


def test_random_numbers_are_those_of_the_host(device: Any) -> None:
    pairs = [(seed, position) for seed in SEEDS for position in (0, 1, 77, 2**40)]
    bits = torch.from_numpy(np.array(pairs, dtype=np.uint64).view(np.int64))
    seeds, positions = bits.to(device).unbind(1)
    out = torch.empty(len(pairs), dtype=torch.float64, device=device)
    uniform_kernel[(len(pairs),)](seeds.contiguous(), positions.contiguous(), out)
    assert out.tolist() == [uniform(*pair) for pair in pairs]


def test_a_threshold_beyond_the_candidates(device: Any) -> None:
    """A nearly flat row, whose nucleus is most of it, and one with more ties than there is room."""
    torch.manual_seed(5)
    flat = torch.randn(1, 3000, device=device) * 0.01
    ties = torch.zeros(1, 3000, device=device)
    settings = [(1.0, 0, 0.9, 0.0), (1.0, 2000, 1.0, 0.0), (1.0, 1500, 0.5, 0.0)]
    for logits in (flat, ties):
        check(logits.expand(3, -1).contiguous(), settings)


def test_wrong_arguments_are_named(device: Any) -> None:
    with pytest.raises(TypeError, match="draws must be int64"):
        sample_rows(torch.ones(1, 8), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="draws"):
        sample_rows(torch.ones(2, 8), torch.zeros(1, 4, dtype=torch.int64))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("vocab_size", [49152, 152064])
def test_large_vocabularies_on_the_gpu(device: Any, dtype: torch.dtype, vocab_size: int) -> None:
    torch.manual_seed(4)
    settings = SETTINGS * 8
    check(torch.randn(len(settings), vocab_size, device=device).mul(3).to(dtype), settings)
