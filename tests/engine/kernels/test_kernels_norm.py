"""The norms against their reference: odd widths, rows of heads, strided views, aliasing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kernels.norm import add_rms_norm, reference, rms_norm

EPS = 1e-5


def weight_of(width: int, dtype: torch.dtype, device: Any) -> torch.Tensor:
    return torch.rand(width, device=device).add(0.5).to(dtype)


def check_rms_norm(x: torch.Tensor, expect_close: Any) -> None:
    weight = weight_of(x.shape[-1], x.dtype, x.device)
    got = rms_norm(x, weight, EPS)
    assert got.is_contiguous()
    expect_close(got, reference(x, weight, EPS), x.dtype)


def check_add_rms_norm(x: torch.Tensor, residual: torch.Tensor, expect_close: Any) -> None:
    weight = weight_of(x.shape[-1], x.dtype, x.device)
    total = (x.float() + residual.float()).to(x.dtype)
    normed, summed = add_rms_norm(x, residual, weight, EPS)
    assert torch.equal(summed, total)
    expect_close(normed, reference(total, weight, EPS), x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("width", [1, 37, 64, 576, 3584])
def test_norms_equal_reference(
    expect_close: Any, device: Any, dtype: torch.dtype, width: int
) -> None:
    torch.manual_seed(width)
    for num_tokens in (1, 5):
        x = torch.randn(num_tokens, width, device=device).to(dtype)
        check_rms_norm(x, expect_close)
        check_add_rms_norm(x, torch.randn_like(x), expect_close)


@pytest.mark.parametrize(("num_heads", "head_dim"), [(3, 64), (9, 80), (1, 128)])
def test_heads_of_a_fused_projection(
    expect_close: Any, device: Any, num_heads: int, head_dim: int
) -> None:
    fused = torch.randn(7, (num_heads + 3) * head_dim, device=device)
    heads = fused[:, head_dim : (num_heads + 1) * head_dim].unflatten(1, (num_heads, head_dim))
    check_rms_norm(heads, expect_close)


def test_rows_that_overflow_half_precision_when_squared(expect_close: Any, device: Any) -> None:
    x = torch.full((2, 64), 500.0, device=device, dtype=torch.float16)
    check_rms_norm(x, expect_close)


def test_no_rows(device: Any) -> None:
    x, weight = torch.empty(0, 8, device=device), torch.ones(8, device=device)
    assert rms_norm(x, weight, EPS).shape == (0, 8)
    assert add_rms_norm(x, x.clone(), weight, EPS)[0].shape == (0, 8)


def test_wrong_arguments_are_named(device: Any) -> None:
    x, weight = torch.ones(2, 8, device=device), torch.ones(8, device=device)
    with pytest.raises(ValueError, match="weight must have shape"):
        rms_norm(x, weight[:7], EPS)
    with pytest.raises(ValueError, match="residual must have shape"):
        add_rms_norm(x, x[:1], weight, EPS)
    with pytest.raises(TypeError, match="x must be bfloat16 or float16 or float32"):
        rms_norm(x.int(), weight, EPS)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("width", [1, 63, 128, 576, 2560, 3584, 5120, 8192, 16384])
def test_norms_on_the_gpu(expect_close: Any, device: Any, dtype: torch.dtype, width: int) -> None:
    for num_tokens in (1, 3, 257):
        x = torch.randn(num_tokens, width, device=device).to(dtype)
        check_rms_norm(x, expect_close)
        check_add_rms_norm(x, torch.randn_like(x), expect_close)
