"""The CPU's grouped attention is plain attention, however a batch is put together."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cpu.attention import PADDING_TOKENS, Span, group_spans
from engine.cpu.backend import TorchBackend

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 16


def plain_attention(q, k, v, first, window):
    """(T, H * D) of q (T, H, D) at positions from `first` over k and v (C, H_kv, D)."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = torch.einsum("thd,chd->htc", q, k) * HEAD_DIM**-0.5
    behind = torch.arange(first, first + len(q))[:, None] - torch.arange(len(k))
    hidden = (behind < 0) | (behind >= (window or len(k)))
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("htc,chd->thd", weights, v).flatten(1)


def filled_pool(backend, num_pages, block_size):
    pool = backend.allocate_pool(num_pages, KV_HEADS, block_size, HEAD_DIM)
    pool.k.normal_()
    pool.v.normal_()
    return pool


def cached(tensor, pages, length):
    """(C, H_kv, D) of a sequence, read page by page."""
    return torch.cat([tensor[page].transpose(0, 1) for page in pages])[:length]


@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize("window", [None, 1, 5, 40])
def test_any_mixture_of_decode_and_prefill_equals_plain_attention(batch_of, block_size, window):
    torch.manual_seed(0)
    backend = TorchBackend(torch.float32, 1)
    pool = filled_pool(backend, 900, block_size)
    free = random.Random(0).sample(range(900), 900)
    # (query tokens, tokens cached before them): long and short, with and without a prefix.
    lengths = [(1, 0), (1, 90), (7, 0), (1, 3), (1, 700 // 16 * block_size), (20, 13), (1, 16)]
    parts = []
    for queries, before in lengths:
        num_pages = -(-(queries + before) // block_size)
        pages = [free.pop() for _ in range(num_pages)]
        parts.append(([0] * queries, before, pages))
    batch = batch_of(parts, block_size)
    q = torch.randn(batch.num_tokens, HEADS, HEAD_DIM)
    plan = backend.plan(batch, HEADS, KV_HEADS, HEAD_DIM)
    out = backend.attend(q, pool, plan, HEAD_DIM**-0.5, window)
    for (tokens, before, pages), rows in zip(
        parts, zip(batch.query_starts[:-1], batch.query_starts[1:], strict=True), strict=True
    ):
        length = before + len(tokens)
        k, v = (cached(half, pages, length) for half in pool)
        expected = plain_attention(q[rows[0] : rows[1]], k, v, before, window)
        torch.testing.assert_close(out[rows[0] : rows[1]], expected, atol=1e-5, rtol=1e-5)


MAX_TOKENS = 4000


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_groups_hold_every_sequence_once_and_little_padding(lengths):
    spans = [Span(number, 0, length) for number, length in enumerate(lengths)]
    groups = group_spans(spans, MAX_TOKENS)
    assert sorted(span for group in groups for span in group) == spans
    for group in groups:
        assert group == sorted(group)
        longest = max(span.length for span in group)
        assert sum(longest - span.length for span in group) <= PADDING_TOKENS
        assert len(group) == 1 or len(group) * longest <= MAX_TOKENS


def test_writing_reaches_its_slots_and_no_other(batch_of):
    torch.manual_seed(0)
    backend = TorchBackend(torch.float32, 1)
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
    backend = TorchBackend(torch.float32, 1)
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
