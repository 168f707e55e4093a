"""The references that the kernels are held to, against torch's own functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from engine.attention import LayerPool
from engine.kernels import norm, paged_decode, paged_prefill, rope_write, silu_mul


def dense(case: Any, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    """K and V (H_kv, context, D) of a sequence, token by token."""
    block_size = case.pool.k.shape[2]
    table = case.batch.block_tables[sequence].tolist()
    tokens = range(case.batch.context_lens[sequence])
    where = [(table[t // block_size], t % block_size) for t in tokens]
    k, v = (torch.stack([x[page, :, slot] for page, slot in where], 1) for x in case.pool)
    return k, v


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None
) -> torch.Tensor:
    """torch's attention of the last len(q) tokens; (T, H * D)."""
    tokens = torch.arange(k.shape[1])
    positions = tokens[-q.shape[0] :, None]
    seen = (tokens <= positions) & (tokens > positions - (window or k.shape[1]))
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], k[None], v[None], attn_mask=seen, scale=scale, enable_gqa=True
    )
    return out[0].transpose(0, 1).flatten(1)


@pytest.mark.parametrize("window", [None, 1, 9])
def test_prefill_reference_is_torch_attention(
    paged: Any, expect_close: Any, window: int | None
) -> None:
    case = paged([3, 1, 20], [3, 30, 41], heads=(6, 2, 16), dtype=torch.float32)
    batch, scale = case.batch, 0.3
    got = paged_prefill.reference(
        case.q.cpu(),
        LayerPool(*(pages.cpu() for pages in case.pool)),
        batch.block_tables.cpu(),
        batch.query_lens,
        batch.context_lens,
        scale=scale,
        window=window,
    )
    chunks = case.q.cpu().split([3, 1, 20])
    want = [
        attention(q, *(x.cpu() for x in dense(case, s)), scale, window)
        for s, q in enumerate(chunks)
    ]
    expect_close(got, torch.cat(want))


@pytest.mark.parametrize("window", [None, 1, 9])
def test_decode_reference_is_prefill_of_one_token(
    paged: Any, expect_close: Any, window: int | None
) -> None:
    case = paged([1, 1, 1], [1, 16, 41], heads=(4, 2, 16), dtype=torch.float32)
    tables, _, context_lens = case.tables
    want = paged_prefill.reference(
        case.q, case.pool, tables, [1, 1, 1], [1, 16, 41], scale=0.25, window=window
    )
    got = paged_decode.reference(case.q, case.pool, tables, context_lens, scale=0.25, window=window)
    expect_close(got, want)


def test_rope_reference_turns_complex_numbers(expect_close: Any) -> None:
    q, k, v = torch.randn(5, 4, 16), torch.randn(5, 2, 16), torch.randn(5, 2, 16)
    angles = torch.rand(10, 8) * 6
    positions, slots = torch.tensor([0, 9, 3, 3, 1]), torch.tensor([4, 17, 0, 30, 31])
    pool = LayerPool(torch.zeros(4, 2, 8, 16), torch.zeros(4, 2, 8, 16))
    turned = rope_write.reference(q, k, v, angles.cos(), angles.sin(), positions, slots, pool)

    def by_complex(x: torch.Tensor) -> torch.Tensor:
        low, high = x.chunk(2, -1)
        numbers = torch.complex(low, high) * torch.polar(torch.ones(10, 8), angles)[positions, None]
        return torch.cat((numbers.real, numbers.imag), -1)

    expect_close(turned, by_complex(q))
    for row, slot in enumerate(slots.tolist()):
        expect_close(pool.k[slot // 8, :, slot % 8], by_complex(k)[row])
        assert torch.equal(pool.v[slot // 8, :, slot % 8], v[row])


def test_norm_and_gate_references_are_torchs(expect_close: Any) -> None:
    x, weight = torch.randn(3, 40), torch.rand(40)
    expect_close(norm.reference(x, weight, 1e-5), F.rms_norm(x, (40,), weight, 1e-5))
    gate, up = x[:, :20], x[:, 20:]
    expect_close(silu_mul.reference(x), gate / (1 + torch.exp(-gate)) * up)
