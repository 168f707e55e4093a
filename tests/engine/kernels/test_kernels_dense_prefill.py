"""Long prompts beside the paged kernels, and what lies in pages that nobody wrote."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from engine.batch import Batch
from engine.kernels import dense_prefill
from engine.kernels.backend import TritonBackend
from engine.kernels.dense_prefill import DensePrompt, attend_prompt, padded, sizes

H, H_KV, D, BLOCK = 4, 2, 16, 16
DTYPE = torch.float16


def pool_of(backend: TritonBackend, num_pages: int) -> Any:
    """Pages that hold no numbers until they are written to."""
    pool = backend.allocate_pool(num_pages, H_KV, BLOCK, D)
    for part in pool:
        part.fill_(float("nan"))
    return pool


def write(pool: Any, table: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    for place in range(len(k)):
        page, offset = int(table[place // BLOCK]), place % BLOCK
        pool.k[page, :, offset], pool.v[page, :, offset] = k[place], v[place]


def test_sizes_are_those_that_prompts_are_padded_to() -> None:
    found = list(sizes(16384, 128, DTYPE))
    contexts = range(dense_prefill.MIN_TOKENS, dense_prefill.MAX_CONTEXT * 16384 + 1)
    assert found == sorted({padded(context) for context in contexts})
    assert not list(sizes(16384, 256, DTYPE))
    assert not list(sizes(16384, 128, torch.float32))
    assert not list(sizes(dense_prefill.MIN_TOKENS - 1, 128, DTYPE))


@pytest.mark.parametrize(("num_tokens", "cached"), [(512, 0), (521, 0), (300, 212), (290, 240)])
def test_a_chunk_attends_to_its_prefix_and_itself(
    device: Any, num_tokens: int, cached: int
) -> None:
    torch.manual_seed(num_tokens)
    context = cached + num_tokens
    backend = TritonBackend(device, DTYPE)
    pool = pool_of(backend, 40)
    table = torch.randperm(40)[: padded(context) // BLOCK].to(device, torch.int32)
    q = torch.randn(num_tokens + 9, H, D, device=device, dtype=DTYPE)
    k, v = (torch.randn(context, H_KV, D, device=device, dtype=DTYPE) for _ in range(2))
    write(pool, table, k, v)
    got = attend_prompt(q, pool, DensePrompt(0, 3, num_tokens, context, table), 0.3)
    heads = [x.float().transpose(0, 1) for x in (q[3 : 3 + num_tokens], k, v)]
    mask = torch.ones(num_tokens, context, device=device).tril(cached).bool()
    want = F.scaled_dot_product_attention(*heads, attn_mask=mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(got.float(), want.transpose(0, 1).flatten(1), atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("window", [None, 20])
def test_among_others_it_is_what_the_paged_kernel_gives(
    device: Any, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    backend = TritonBackend(device, DTYPE)
    query_lens, context_lens = (1, 70, 5, 66, 65), (9, 70, 30, 80, 144)
    pool, pages = pool_of(backend, 45), torch.randperm(45).to(device, torch.int32)
    tables = pages.view(5, 9)
    for table, context in zip(tables, context_lens, strict=True):
        kv = (torch.randn(context, H_KV, D, device=device, dtype=DTYPE) for _ in range(2))
        write(pool, table, *kv)
    num_tokens = sum(query_lens)
    nothing = torch.zeros(num_tokens, dtype=torch.int64, device=device)
    starts = torch.tensor([0, *accumulate(query_lens)], dtype=torch.int32, device=device)
    lens = torch.tensor(context_lens, dtype=torch.int32, device=device)
    batch = Batch(
        nothing, nothing, nothing, tables, starts, lens, nothing, query_lens, context_lens
    )
    q = torch.randn(num_tokens, H, D, device=device, dtype=DTYPE)

    def attended() -> torch.Tensor:
        plan = backend.plan(batch, H, H_KV, D)
        assert len(plan.dense) == num_dense
        return backend.attend(q, pool, plan, D**-0.5, window)

    num_dense = 0
    want = attended()
    monkeypatch.setattr(dense_prefill, "MIN_TOKENS", 64)
    num_dense = 2  # the last one's prefix is longer than its chunk
    torch.testing.assert_close(attended(), want, atol=2e-3, rtol=2e-3)
