"""Products of few rows against their reference: odd widths, strides, biases, sums in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kernels.silu_mul import silu_mul
from engine.kernels.stream_linear import (
    FEW_ROWS,
    MAX_ROWS,
    Norm,
    add_stream_linear,
    choose_tiles,
    reference,
    stream_linear,
    streams,
)


def made(device: Any, *shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(shape, device=device).to(dtype)


@pytest.mark.parametrize("num_rows", [1, 2, 7, 16])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(40, 256), (33, 576), (70, 1024)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_product_equals_reference(
    expect_product: Any, num_rows: int, num_outputs: int, num_inputs: int, has_bias: bool
) -> None:
    expect_product(stream_linear, add_stream_linear, (num_rows, num_outputs, num_inputs), has_bias)


@pytest.mark.parametrize("num_rows", [1, 2])
@pytest.mark.parametrize("num_inputs", [256, 576])
def test_a_norm_rides_along(expect_close: Any, device: Any, num_rows: int, num_inputs: int) -> None:
    x, weight = made(device, num_rows, num_inputs) * 3, made(device, 24, num_inputs)
    norm, bias = Norm(made(device, num_inputs), 1e-5), made(device, 24)
    got = stream_linear(x, weight, bias, norm=norm)
    expect_close(got, reference(x, weight, bias, norm=norm), torch.float16)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 16])
@pytest.mark.parametrize("width", [4, 33])
def test_a_gate_rides_along(expect_close: Any, device: Any, num_rows: int, width: int) -> None:
    x, weight = made(device, num_rows, 64), made(device, 2 * width, 64) / 8
    got = stream_linear(x, weight, gated=True)
    assert got.shape == (num_rows, width)
    # The products are rounded before the gate, as they are without it.
    expect_close(got, silu_mul(stream_linear(x, weight)), torch.float16)
    norm = Norm(made(device, 64), 1e-5)
    if num_rows <= FEW_ROWS:
        want = reference(x, weight, norm=norm, gated=True)
        expect_close(stream_linear(x, weight, norm=norm, gated=True), want, torch.float16)


@pytest.mark.parametrize("num_outputs", [3584, 4608, 16384])
def test_every_cut_equals_reference(
    expect_close: Any, device: Any, num_outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cuts of large weights, on a small one that none of them divides."""
    tiles = choose_tiles(3, num_outputs)
    monkeypatch.setattr("engine.kernels.stream_linear.choose_tiles", lambda *_: tiles)
    x, weight = made(device, 3, 576), made(device, 150, 576)
    expect_close(stream_linear(x, weight), reference(x, weight), torch.float16)


def test_rows_do_not_depend_on_their_company(device: Any) -> None:
    x, weight = made(device, 16, 512), made(device, 48, 512)
    together = stream_linear(x, weight)
    assert torch.equal(stream_linear(x[3:9], weight), together[3:9])
    few = stream_linear(x[:2], weight)
    assert torch.equal(stream_linear(x[1:2], weight), few[1:2])


def test_only_few_rows_of_16_bits_stream(device: Any) -> None:
    weight = made(device, 8, 64)
    assert streams(made(device, 1, 64), weight) and streams(made(device, MAX_ROWS, 64), weight)
    assert not streams(made(device, MAX_ROWS + 1, 64), weight)
    assert not streams(made(device, 0, 64), weight)
    assert not streams(made(device, 1, 64).float(), weight.float())


def test_cuts_fit_a_multiprocessor() -> None:
    for num_rows, rows in ((1, 1), (2, 2), (3, MAX_ROWS), (MAX_ROWS, MAX_ROWS)):
        for num_outputs in (1, 4096, 10**6):
            tiles = choose_tiles(num_rows, num_outputs)
            in_flight = 2 * tiles.num_stages * tiles.inputs * (tiles.outputs + rows)
            assert in_flight <= 227 * 1024


def test_wrong_arguments_are_named(device: Any) -> None:
    weight = made(device, 8, 64)
    with pytest.raises(ValueError, match="1 to 16 rows, not 17"):
        stream_linear(made(device, 17, 64), weight)
    with pytest.raises(TypeError, match="weight must be"):
        stream_linear(made(device, 1, 64).float(), weight)
    with pytest.raises(ValueError, match="bias must have shape"):
        stream_linear(made(device, 1, 64), weight, made(device, 9))
    with pytest.raises(ValueError, match="1 to 2 rows, not 3"):
        stream_linear(made(device, 3, 64), weight, norm=Norm(made(device, 64), 1e-5))
    with pytest.raises(ValueError, match="no bias"):
        stream_linear(made(device, 1, 64), weight, made(device, 8), gated=True)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [1, 2, 4, 9, 16])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(4608, 3584), (3584, 18944), (960, 576)])
def test_on_a_device_in_bfloat16(
    expect_close: Any, device: Any, num_rows: int, num_outputs: int, num_inputs: int
) -> None:
    x = made(device, num_rows, num_inputs, dtype=torch.bfloat16)
    weight = made(device, num_outputs, num_inputs, dtype=torch.bfloat16) / 32
    bias = made(device, num_outputs, dtype=torch.bfloat16)
    for _ in range(3):
        got = stream_linear(x, weight, bias)
        expect_close(got, reference(x, weight, bias), torch.bfloat16)
        residual = got.clone()
        add_stream_linear(x, weight, None, residual)
        expect_close(residual, reference(x, weight, residual=got), torch.bfloat16)
    norm = Norm(bias[:1].expand(num_inputs).contiguous(), 1e-6) if num_rows <= FEW_ROWS else None
    got = stream_linear(x, weight / 8, norm=norm, gated=True)
    want = reference(x, weight / 8, norm=norm, gated=True)
    # Gate and up are rounded before they meet, so the product has three roundings.
    assert (got.float() - want).norm() / want.norm() < 3 * 8e-3
