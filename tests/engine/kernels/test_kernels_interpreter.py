"""What the interpreter still notices though it was made faster."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpreterError


@triton.jit
def arithmetic_kernel(left, right, out, OPERATION: tl.constexpr):
    a, b = tl.load(left), tl.load(right)
    if OPERATION == "add":
        tl.store(out, a + b)
    elif OPERATION == "sub":
        tl.store(out, a - b)
    else:
        tl.store(out, a * b)


def computed(operation: str, left: int, right: int, dtype: torch.dtype) -> Any:
    out = torch.zeros(1, dtype=torch.int64)
    sides = torch.tensor([left], dtype=dtype), torch.tensor([right], dtype=dtype)
    arithmetic_kernel[(1,)](*sides, out, operation)
    return out.item()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a compiled kernel wraps around")
@pytest.mark.parametrize(
    ("operation", "left", "right", "exact"),
    [
        ("add", 2**31 - 1, 1, 2**31),
        ("sub", -(2**31), 1, -(2**31) - 1),
        ("mul", 2**16, 2**15, 2**31),
    ],
)
def test_an_integer_that_overflows_is_an_error(
    operation: str, left: int, right: int, exact: int
) -> None:
    assert computed(operation, left, right, torch.int64) == exact
    assert computed(operation, left // 2, 0, torch.int32) == (
        left // 2 if operation != "mul" else 0
    )
    with pytest.raises(InterpreterError, match="overflow"):
        computed(operation, left, right, torch.int32)


@triton.jit
def copy_kernel(source, out, first, COUNT: tl.constexpr, LIVE: tl.constexpr):
    places = first + tl.arange(0, COUNT)
    live = tl.arange(0, COUNT) < LIVE
    tl.store(out + places, tl.load(source + places, mask=live, other=0), mask=live)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device tells of unmapped memory only")
@pytest.mark.parametrize(("first", "live"), [(0, 16), (4, 12), (0, 0)])
def test_memory_that_a_launch_was_given_may_be_used(first: int, live: int) -> None:
    source, out = torch.arange(16), torch.zeros(16, dtype=torch.int64)
    copy_kernel[(1,)](source, out, first, 16, live)
    assert out[first : first + live].equal(source[first : first + live])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device tells of unmapped memory only")
@pytest.mark.parametrize(("first", "live"), [(4, 13), (-1, 1), (1000, 1)])
@pytest.mark.parametrize("beyond", ["source", "out"])
def test_memory_beside_it_is_an_error(beyond: str, first: int, live: int) -> None:
    """Of what is read and of what is written alike: the other side has room on both sides."""
    small, large = torch.zeros(16, dtype=torch.int64), torch.zeros(3000, dtype=torch.int64)[1000:]
    sides = (small, large) if beyond == "source" else (large, small)
    with pytest.raises(InterpreterError, match="foreign"):
        copy_kernel[(1,)](*sides, first, 16, live)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device refuses it by itself")
def test_an_address_between_two_elements_is_an_error() -> None:
    odd = torch.zeros(65, dtype=torch.uint8)[1:].view(torch.uint8)
    with pytest.raises(InterpreterError, match="multiples of 8"):
        copy_kernel[(1,)](triton.reinterpret(odd, tl.int64), torch.zeros(8).long(), 0, 8, 1)
