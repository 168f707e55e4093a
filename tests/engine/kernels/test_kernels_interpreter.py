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
