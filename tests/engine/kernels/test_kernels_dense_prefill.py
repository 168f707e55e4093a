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
    assert found == sorted({padded(n) for n in range(dense_prefill.MIN_TOKENS, 16385)})
    assert not list(sizes(16384, 256, DTYPE))
    assert not list(sizes(16384, 128, torch.float32))
    assert not list(sizes(dense_prefill.MIN_TOKENS - 1, 128, DTYPE))


@pytest.mark.parametrize("num_tokens", [512, 521])
def test_a_prompt_attends_to_itself_alone(device: Any, num_tokens: int) -> None:
    torch.manual_seed(num_tokens)
    backend = TritonBackend(device, DTYPE)
    pool = pool_of(backend, 40)
    table = torch.randperm(40)[: padded(num_tokens) // BLOCK].to(device, torch.int32)
    q = torch.randn(num_tokens + 9, H, D, device=device, dtype=DTYPE)
    k, v = (torch.randn(num_tokens, H_KV, D, device=device, dtype=DTYPE) for _ in range(2))
    write(pool, table, k, v)
    got = attend_prompt(q, pool, DensePrompt(0, 3, num_tokens, table), 0.3)
    heads = [x.float().transpose(0, 1) for x in (q[3 : 3 + num_tokens], k, v)]
    want = F.scaled_dot_product_attention(*heads, is_causal=True, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(got.float(), want.transpose(0, 1).flatten(1), atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("window", [None, 20])
def test_among_others_it_is_what_the_paged_kernel_gives(
    device: Any, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    backend = TritonBackend(device, DTYPE)
    query_lens, context_lens = (1, 70, 5, 66), (9, 70, 30, 80)  # the last has a cached prefix
    pool, pages = pool_of(backend, 32), torch.randperm(32).to(device, torch.int32)
    tables = torch.stack([pages[8 * i : 8 * i + 8] for i in range(4)])
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
    num_dense = 1
    torch.testing.assert_close(attended(), want, atol=2e-3, rtol=2e-3)
