"""The CPU's tiled attention is plain attention, however a batch is put together."""

from __future__ import annotations

import random

import pytest
import torch

from engine.cpu.attention import tiles_of
from engine.cpu.backend import CpuBackend

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 16


def plain_attention(q, k, v, first, window):
    """(T, H * D) of q (T, H, D) at positions from `first` over k and v (C, H_kv, D)."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = torch.einsum("thd,chd->htc", q, k) * q.shape[-1] ** -0.5
    behind = torch.arange(first, first + len(q))[:, None] - torch.arange(len(k))
    hidden = (behind < 0) | (behind >= (window or len(k)))
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("htc,chd->thd", weights, v).flatten(1)


def filled_pool(backend, num_pages, block_size, head_dim=HEAD_DIM):
    pool = backend.allocate_pool(num_pages, KV_HEADS, block_size, head_dim)
    pool.k.copy_(torch.randn(pool.k.shape))
    pool.v.copy_(torch.randn(pool.v.shape))
    return pool


def cached(tensor, pages, length):
    """(C, H_kv, D) of a sequence, read page by page."""
    return torch.cat([tensor[page].transpose(0, 1) for page in pages])[:length]


class Mixture:
    """Sequences that prefill and decode, in shuffled pages of a filled pool."""

    def __init__(self, backend, batch_of, lengths, block_size, head_dim=HEAD_DIM):
        num_pages = sum(-(-sum(pair) // block_size) for pair in lengths)
        self.pool = filled_pool(backend, num_pages, block_size, head_dim)
        self.backend, self.head_dim = backend, head_dim
        free = random.Random(0).sample(range(num_pages), num_pages)
        self.parts = [
            (
                [0] * queries,
                before,
                [free.pop() for _ in range(-(-(queries + before) // block_size))],
            )
            for queries, before in lengths
        ]
        self.batch = batch_of(self.parts, block_size)
        self.q = torch.randn(self.batch.num_tokens, HEADS, head_dim).to(backend.dtype)

    def attend(self, window=None):
        plan = self.backend.plan(self.batch, HEADS, KV_HEADS, self.head_dim)
        return self.backend.attend(self.q, self.pool, plan, self.head_dim**-0.5, window)

    def expected(self, window=None):
        """In fp64, sequence by sequence."""
        starts = self.batch.query_starts.tolist()
        outs = []
        for (tokens, before, pages), begin, end in zip(
            self.parts, starts[:-1], starts[1:], strict=True
        ):
            k, v = (cached(half, pages, before + len(tokens)).double() for half in self.pool)
            outs.append(plain_attention(self.q[begin:end].double(), k, v, before, window))
        return torch.cat(outs)


# (query tokens, tokens cached before them): long and short, with and without a prefix.
LENGTHS = [(1, 0), (1, 90), (7, 0), (1, 3), (1, 700), (70, 13), (1, 16), (130, 0)]
TOLERANCES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def error(out, expected):
    return ((out.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("block_size", [1, 4, 16, 24, 128])
@pytest.mark.parametrize("window", [None, 1, 5, 40, 200])
def test_any_mixture_of_decode_and_prefill_equals_plain_attention(batch_of, block_size, window):
    torch.manual_seed(0)
    mixture = Mixture(CpuBackend(torch.float32, 1), batch_of, LENGTHS, block_size)
    assert error(mixture.attend(window), mixture.expected(window)) < TOLERANCES[torch.float32]


@pytest.mark.parametrize("head_dim", [4, 20, 64, 80, 128])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_any_head_and_dtype_equals_plain_attention(batch_of, head_dim, dtype):
    torch.manual_seed(0)
    mixture = Mixture(CpuBackend(dtype, 1), batch_of, LENGTHS, 16, head_dim)
    assert error(mixture.attend(), mixture.expected()) < TOLERANCES[dtype]


def test_what_lies_beyond_a_sequences_end_does_not_count(batch_of):
    torch.manual_seed(0)
    mixture = Mixture(CpuBackend(torch.float32, 1), batch_of, [(1, 20), (5, 2)], 16)
    clean = mixture.attend()
    for tokens, before, pages in mixture.parts:
        used = (before + len(tokens)) % 16
        mixture.pool.k[pages[-1], :, used:] = torch.nan
        mixture.pool.v[pages[-1], :, used:] = torch.nan
    assert torch.equal(mixture.attend(), clean)


def test_threads_change_no_bit(batch_of):
    torch.manual_seed(0)
    mixture = Mixture(CpuBackend(torch.bfloat16, 1), batch_of, LENGTHS, 16, 64)
    alone = mixture.attend()
    mixture.backend = CpuBackend(torch.bfloat16, 3)
    assert torch.equal(mixture.attend(), alone)


def test_tiles_hold_every_token_once_and_the_longest_come_first(batch_of):
    parts = [([0] * queries, before, [0]) for queries, before in LENGTHS]
    tiles = tiles_of(batch_of(parts, 1000), 3).tolist()
    tokens = sorted(t for _, first, count, _ in tiles for t in range(first, first + count))
    assert tokens == list(range(sum(queries for queries, _ in LENGTHS)))
    work = [(position + count) * count for _, _, count, position in tiles]
    assert work == sorted(work, reverse=True)


def test_writing_reaches_its_slots_and_no_other(batch_of):
    torch.manual_seed(0)
    backend = CpuBackend(torch.float32, 1)
    pool = filled_pool(backend, 6, 4)
    before_k, before_v = pool.k.clone(), pool.v.clone()
    batch = batch_of([([0] * 3, 2, [5, 1]), ([0], 0, [3])], 4)
    qkv = torch.randn(4, HEADS + 2 * KV_HEADS, HEAD_DIM)
    q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
    cos, sin = torch.ones(8, HEAD_DIM // 2), torch.zeros(8, HEAD_DIM // 2)
    plan = backend.plan(batch, HEADS, KV_HEADS, HEAD_DIM)
    rotated = backend.rope_and_write(q, k, v, cos, sin, pool, plan)
    assert torch.equal(rotated, q)
    for token, (page, offset) in enumerate([(5, 2), (5, 3), (1, 0), (3, 0)]):
        before_k[page, :, offset] = k[token]
        before_v[page, :, offset] = v[token]
    assert torch.equal(pool.k, before_k)
    assert torch.equal(pool.v, before_v)


@pytest.mark.parametrize("adjacent", [True, False])
def test_rotation_turns_halves_by_their_positions_angle(batch_of, adjacent):
    torch.manual_seed(0)
    backend = CpuBackend(torch.float32, 1)
    pool = backend.allocate_pool(4, KV_HEADS, 4, HEAD_DIM)
    batch = batch_of([([0] * 5, 3, [2, 0])], 4)
    qkv = torch.randn(5, HEADS + 2 * KV_HEADS, HEAD_DIM)
    q, k, v = qkv.split([HEADS, KV_HEADS, KV_HEADS], 1)
    if not adjacent:
        q, k = q.clone(), k.clone()
    angles = torch.rand(8, HEAD_DIM // 2)
    plan = backend.plan(batch, HEADS, KV_HEADS, HEAD_DIM)
    out = backend.rope_and_write(q, k, v, angles.cos(), angles.sin(), pool, plan)
    turned = torch.polar(torch.ones(5, HEAD_DIM // 2), angles[3:8])[:, None]
    for x, result in ((q, out), (k, cached(pool.k, [2, 0], 8)[3:])):
        first, second = x.chunk(2, -1)
        z = torch.complex(first.contiguous(), second.contiguous()) * turned
        torch.testing.assert_close(result, torch.cat((z.real, z.imag), -1))
