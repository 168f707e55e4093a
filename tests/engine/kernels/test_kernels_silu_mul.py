"""silu(gate) * up against its reference over odd widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kernels.silu_mul import reference, silu_mul


def check(gate_up: torch.Tensor, expect_close: Any) -> None:
    got = silu_mul(gate_up)
    assert got.is_contiguous()
    expect_close(got, reference(gate_up), gate_up.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("width", [1, 37, 1024, 1536, 2049])
def test_silu_mul_equals_reference(
    expect_close: Any, device: Any, dtype: torch.dtype, width: int
) -> None:
    for num_tokens in (1, 5):
        check(torch.randn(num_tokens, 2 * width, device=device).mul(4).to(dtype), expect_close)


def test_strided_rows_and_extremes(expect_close: Any, device: Any) -> None:
    wide = torch.randn(4, 40, device=device)
    wide[0, :20] = -200.0
    check(wide[:, :32], expect_close)
    assert silu_mul(torch.empty(0, 8, device=device)).shape == (0, 4)


def test_wrong_arguments_are_named(device: Any) -> None:
    with pytest.raises(ValueError, match="even width"):
        silu_mul(torch.ones(2, 7, device=device))
    with pytest.raises(ValueError, match="gate_up must be"):
        silu_mul(torch.ones(8, device=device))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("width", [1, 333, 1536, 14336, 18944])
def test_silu_mul_on_the_gpu(
    expect_close: Any, device: Any, dtype: torch.dtype, width: int
) -> None:
    for num_tokens in (1, 3, 129):
        check(torch.randn(num_tokens, 2 * width, device=device).mul(4).to(dtype), expect_close)
