"""Our decoder is transformers' decoder, whichever way the tokens are cut into passes."""

from __future__ import annotations

import random

import torch

from engine.cpu.backend import CpuBackend
from engine.models.folder import ModelFolder
from engine.models.weights import load_decoder

BLOCK = 4


def ours(path):
    backend = CpuBackend(torch.float32, 1)
    decoder = load_decoder(ModelFolder.open(path), backend)
    config = decoder.config
    pools = [
        backend.allocate_pool(64, config.num_kv_heads, BLOCK, config.head_dim)
        for _ in range(config.num_layers)
    ]
    return decoder, pools


def tokens(count, seed=0):
    return random.Random(seed).choices(range(97), k=count)


def expected_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_logits_equal_transformers_in_one_pass_in_chunks_and_token_by_token(
    family, reference_of, batch_of
):
    model, path = reference_of(family)
    decoder, pools = ours(path)
    ids = tokens(45)
    expected = expected_logits(model, ids)
    pages = random.Random(1).sample(range(64), 12)
    for step in (45, 17, 4, 1):
        out = [
            decoder.forward(batch_of([(ids[i : i + step], i, pages)], BLOCK), pools)
            for i in range(0, len(ids), step)
        ]
        torch.testing.assert_close(torch.cat(out), expected, atol=1e-4, rtol=1e-4)


def test_a_batch_of_decode_and_prefill_equals_each_sequence_alone(family, reference_of, batch_of):
    model, path = reference_of(family)
    decoder, pools = ours(path)
    # (tokens computed earlier, tokens of this pass)
    cuts = [(30, 1), (0, 21), (3, 1), (8, 12), (29, 1)]
    sequences = [tokens(before + now, seed) for seed, (before, now) in enumerate(cuts)]
    pages = [list(range(12 * i, 12 * i + 12)) for i in range(len(cuts))]
    for ids, own, (before, _) in zip(sequences, pages, cuts, strict=True):
        if before:
            decoder.forward(batch_of([(ids[:before], 0, own)], BLOCK), pools)
    batch = batch_of(
        [
            (ids[before:], before, own, False)
            for ids, own, (before, _) in zip(sequences, pages, cuts, strict=True)
        ],
        BLOCK,
    )
    expected = torch.stack([expected_logits(model, ids)[-1] for ids in sequences])
    torch.testing.assert_close(decoder.forward(batch, pools), expected, atol=1e-4, rtol=1e-4)


def test_only_wanted_rows_give_logits(reference_of, batch_of):
    _, path = reference_of("llama")
    decoder, pools = ours(path)
    batch = batch_of([(tokens(5), 0, [0, 1]), (tokens(3), 0, [2], False)], BLOCK)
    assert decoder.forward(batch, pools).shape == (5 + 1, 97)
