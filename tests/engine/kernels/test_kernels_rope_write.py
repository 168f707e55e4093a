"""Rotation and page writes against the reference, over strided views of a fused projection."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.attention import LayerPool
from engine.kernels.rope_write import reference, rope_write

MAX_LEN = 97


def inputs(
    heads: tuple[int, int, int], num_tokens: int, block_size: int, dtype: torch.dtype, device: Any
) -> tuple[tuple[torch.Tensor, ...], LayerPool]:
    num_heads, num_kv_heads, head_dim = heads
    torch.manual_seed(num_tokens)
    widths = [num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim]
    fused = torch.randn(num_tokens, sum(widths), device=device).to(dtype)
    q, k, v = (x.unflatten(1, (-1, head_dim)) for x in fused.split(widths, dim=1))
    angles = torch.rand(MAX_LEN, head_dim // 2, device=device) * 7
    num_pages = -(-num_tokens // block_size) + 2
    slots = torch.randperm(num_pages * block_size, device=device)[:num_tokens]
    positions = torch.randint(0, MAX_LEN, (num_tokens,), device=device)
    pages = torch.full((num_pages, num_kv_heads, 2, block_size, head_dim), 7.0, device=device)
    pages = pages.to(dtype)
    pool = LayerPool(pages[:, :, 0], pages[:, :, 1])
    return (q, k, v, angles.cos(), angles.sin(), positions, slots), pool


def copy_of(pool: LayerPool) -> LayerPool:
    return LayerPool(pool.k.clone(), pool.v.clone())


def check(args: tuple[torch.Tensor, ...], pool: LayerPool, expect_close: Any) -> None:
    wanted_pool = copy_of(pool)
    want = reference(*args, wanted_pool)
    got = rope_write(*args, pool)
    dtype = args[0].dtype
    expect_close(got, want, dtype)
    expect_close(pool.k, wanted_pool.k, dtype)
    # v is moved, not computed; and what no token owns stays as it was.
    assert torch.equal(pool.v, wanted_pool.v)
    assert torch.equal(pool.k == 7.0, wanted_pool.k == 7.0)


CASES = [
    ((9, 3, 64), 16),
    ((28, 4, 128), 8),
    ((5, 5, 80), 32),
    ((16, 1, 96), 64),
    ((40, 20, 64), 16),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("heads", "block_size"), CASES)
def test_rope_write_equals_reference(
    expect_close: Any, device: Any, dtype: torch.dtype, heads: Any, block_size: int
) -> None:
    for num_tokens in (1, 19):
        args, pool = inputs(heads, num_tokens, block_size, dtype, device)
        check(args, pool, expect_close)


def test_no_tokens(device: Any) -> None:
    args, pool = inputs((4, 2, 64), 0, 16, torch.float32, device)
    assert rope_write(*args, pool).shape == (0, 4, 64)


def test_wrong_arguments_are_named(device: Any) -> None:
    (q, k, v, cos, sin, positions, slots), pool = inputs((4, 2, 64), 3, 16, torch.float32, device)
    with pytest.raises(ValueError, match="slots must have shape"):
        rope_write(q, k, v, cos, sin, positions, slots[:2], pool)
    with pytest.raises(TypeError, match="cos must be float32"):
        rope_write(q, k, v, cos.half(), sin, positions, slots, pool)
    with pytest.raises(ValueError, match="k must have shape"):
        rope_write(q, q, v, cos, sin, positions, slots, pool)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("heads", "block_size"), CASES)
def test_rope_write_on_the_gpu(
    expect_close: Any, device: Any, dtype: torch.dtype, heads: Any, block_size: int
) -> None:
    for num_tokens in (1, 2, 31, 129, 1000):
        args, pool = inputs(heads, num_tokens, block_size, dtype, device)
        check(args, pool, expect_close)
