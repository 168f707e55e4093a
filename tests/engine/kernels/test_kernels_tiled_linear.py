"""Products by tiles against their reference: odd widths, strides, biases, gates, sums in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kernels.silu_mul import silu_mul
from engine.kernels.stream_linear import MAX_ROWS as MOST_STREAMED
from engine.kernels.stream_linear import reference
from engine.kernels.tiled_linear import (
    FEW_OUTPUTS,
    MANY_OUTPUTS,
    MAX_ROWS,
    MOST_ADDED,
    OUTPUTS,
    add_tiled_linear,
    adds_tiles,
    choose_cut,
    fits_tiles,
    tiled_linear,
)


def made(device: Any, *shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(shape, device=device).to(dtype)


@pytest.mark.parametrize("num_rows", [1, 17, 33, 64])
@pytest.mark.parametrize(("num_outputs", "num_inputs"), [(64, 256), (70, 136)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_product_equals_reference(
    expect_product: Any, num_rows: int, num_outputs: int, num_inputs: int, has_bias: bool
) -> None:
    expect_product(tiled_linear, add_tiled_linear, (num_rows, num_outputs, num_inputs), has_bias)


@pytest.mark.parametrize("num_rows", [3, 16, 40])
@pytest.mark.parametrize("width", [8, 90])
def test_a_gate_rides_along(expect_close: Any, device: Any, num_rows: int, width: int) -> None:
    x, weight = made(device, num_rows, 64), made(device, 2 * width, 64) / 8
    got = tiled_linear(x, weight, gated=True)
    assert got.shape == (num_rows, width)
    # The products are rounded before the gate, as they are without it.
    expect_close(got, silu_mul(tiled_linear(x, weight)), torch.float16)


def test_rows_do_not_depend_on_their_company(device: Any) -> None:
    x, weight = made(device, 32, 512), made(device, 48, 512)
    together = tiled_linear(x, weight)
    assert torch.equal(tiled_linear(x[3:20], weight), together[3:20])


def test_cuts_fit_a_multiprocessor_and_gates_three_times() -> None:
    for num_rows in (16, 32, MAX_ROWS):
        for num_outputs in (FEW_OUTPUTS, FEW_OUTPUTS + 1):
            for gated in (False, True):
                cut = choose_cut(num_rows, num_outputs, gated)
                tile_bytes = 2 * cut.inputs * (OUTPUTS * (1 + gated) + num_rows)
                assert (1 + 2 * gated) * cut.num_stages * tile_bytes <= 227 * 1024


def test_who_takes_a_product(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = made(device, 64, 64), made(device, MANY_OUTPUTS, 64)
    monkeypatch.setattr("engine.kernels.tiled_linear.is_hopper", lambda _: True)
    assert not fits_tiles(made(device, 2, 64), many) and fits_tiles(made(device, 3, 64), many)
    assert not fits_tiles(made(device, MOST_STREAMED, 64), few)
    assert fits_tiles(made(device, MOST_STREAMED + 1, 64), few)
    assert fits_tiles(made(device, MAX_ROWS, 64), few)
    assert adds_tiles(made(device, MOST_ADDED, 64), few)
    assert not adds_tiles(made(device, MOST_ADDED + 1, 64), few)
    assert not fits_tiles(made(device, MAX_ROWS + 1, 64), few)
    assert not fits_tiles(made(device, 17, 64).float(), few.float())
    assert not fits_tiles(made(device, 17, 65)[:, :64], few)  # rows begin where none may
    assert not fits_tiles(made(device, 17, 72)[:, 4:68], few)
    monkeypatch.setattr("engine.kernels.tiled_linear.is_hopper", lambda _: False)
    assert not fits_tiles(made(device, 17, 64), few)


def test_wrong_arguments_are_named(device: Any) -> None:
    weight = made(device, 8, 64)
    with pytest.raises(ValueError, match="1 to 64 rows, not 65"):
        tiled_linear(made(device, 65, 64), weight)
    with pytest.raises(TypeError, match="weight must be"):
        tiled_linear(made(device, 1, 64).float(), weight)
    with pytest.raises(ValueError, match="rows of x must begin at multiples of 16 bytes"):
        tiled_linear(made(device, 20, 65)[:, :64], weight)
    with pytest.raises(ValueError, match="no bias"):
        tiled_linear(made(device, 1, 64), weight, made(device, 8), gated=True)


@pytest.mark.gpu
@pytest.mark.parametrize("num_rows", [3, 16, 17, 32, 50, 64])
@pytest.mark.parametrize(
    ("num_outputs", "num_inputs"), [(4608, 3584), (3584, 18944), (960, 576), (20480, 1024)]
)
def test_on_a_device_in_bfloat16(
    expect_close: Any, device: Any, num_rows: int, num_outputs: int, num_inputs: int
) -> None:
    x = made(device, num_rows, num_inputs, dtype=torch.bfloat16)
    weight = made(device, num_outputs, num_inputs, dtype=torch.bfloat16) / 32
    bias = made(device, num_outputs, dtype=torch.bfloat16)
    for _ in range(3):
        got = tiled_linear(x, weight, bias)
        expect_close(got, reference(x, weight, bias), torch.bfloat16)
        residual = got.clone()
        add_tiled_linear(x, weight, None, residual)
        expect_close(residual, reference(x, weight, residual=got), torch.bfloat16)
    got, want = (f(x, weight / 8, gated=True) for f in (tiled_linear, reference))
    # Gate and up are rounded before they meet, so the product has three roundings.
    assert (got.float() - want).norm() / want.norm() < 3 * 8e-3
