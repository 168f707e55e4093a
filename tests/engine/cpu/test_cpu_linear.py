"""Packed products are plain products; the probes choose something that works."""

from __future__ import annotations

import pytest
import torch

from engine.attention import Hidden
from engine.cpu import linear
from engine.cpu.backend import CpuBackend


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("has_bias", [False, True])
def test_packed_equals_plain(dtype, rows, has_bias):
    torch.manual_seed(0)
    weight = torch.randn(72, 50).to(dtype)
    bias = torch.randn(72).to(dtype) if has_bias else None
    x = torch.randn(rows, 50).to(dtype)
    try:
        packed = linear.PackedLinear(weight, bias)
    except (AttributeError, RuntimeError) as error:
        pytest.skip(f"this torch cannot pack: {error}")
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    expected = linear.PlainLinear(weight.float(), bias if bias is None else bias.float())
    torch.testing.assert_close(
        packed(x).float(), expected(x.float()), atol=20 * tolerance, rtol=tolerance
    )


def test_without_packing_the_plain_product_is_taken(monkeypatch):
    def refuse(weight, bias):
        raise RuntimeError("not in this build")

    linear.packed_is_quicker.cache_clear()
    monkeypatch.setattr(linear, "PackedLinear", refuse)
    try:
        made = linear.make_linear(torch.eye(3), None)
    finally:
        linear.packed_is_quicker.cache_clear()
    assert isinstance(made, linear.PlainLinear)
    assert made(torch.ones(1, 3)).tolist() == [[1, 1, 1]]


def test_probe_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    linear.fastest_dtype.cache_clear()
    assert linear.fastest_dtype() in (torch.float32, torch.bfloat16)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("rows", [1, 4, 5, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_is_its_formula_for_few_rows_and_many(rows, dtype):
    torch.manual_seed(0)
    backend = CpuBackend(dtype, 1)
    x, weight = (10 * torch.randn(rows, 48)).to(dtype), torch.rand(48).to(dtype)
    wide = x.float()
    expected = wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.float()
    out = backend.rms_norm(x, weight, 1e-5)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))


def test_added_norm_gives_the_sum_too():
    torch.manual_seed(0)
    backend = CpuBackend(torch.float32, 1)
    x, residual, weight = torch.randn(9, 8), torch.randn(9, 8), torch.rand(8)
    total = x + residual
    hidden = Hidden(residual, x)
    out = backend.norm_of(hidden, weight, 1e-6)
    assert torch.equal(hidden.residual, total)
    torch.testing.assert_close(out, backend.rms_norm(total, weight, 1e-6))


@pytest.mark.parametrize("kind", ["PlainGatedLinear", "PackedGatedLinear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 7])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_gated_product_takes_the_gate_first(kind, dtype, num_rows, has_bias):
    torch.manual_seed(0)
    weight, x = torch.randn(2 * 48, 32, dtype=dtype), torch.randn(num_rows, 32, dtype=dtype)
    bias = torch.randn(2 * 48, dtype=dtype) if has_bias else None
    wide_bias = None if bias is None else bias.float()
    gate, up = torch.nn.functional.linear(x.float(), weight.float(), wide_bias).chunk(2, -1)
    expected = gate / (1 + torch.exp(-gate)) * up
    try:
        product = getattr(linear, kind)(weight, bias)
    except (AttributeError, RuntimeError) as error:
        pytest.skip(f"this torch cannot pack: {error}")
    error = (product(x).float() - expected).norm() / expected.norm()
    assert float(error) <= (1e-5 if dtype == torch.float32 else 1e-2)
