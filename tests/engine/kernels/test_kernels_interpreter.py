"""What the faster interpreter must still notice."""

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="a compiled kernel wraps around")
@pytest.mark.parametrize(
    ("operation", "left", "right"),
    [("add", 2**31 - 1, 1), ("sub", -(2**31), 1), ("mul", 2**16, 2**15)],
)
def test_an_integer_that_overflows_is_an_error(operation: str, left: int, right: int) -> None:
    def compute(left: int, right: int, kind: torch.dtype) -> Any:
        out = torch.zeros(1, dtype=torch.int64)
        sides = torch.tensor([left], dtype=kind), torch.tensor([right], dtype=kind)
        arithmetic_kernel[(1,)](*sides, out, operation)
        return out.item()

    exact = {"add": left + right, "sub": left - right, "mul": left * right}[operation]
    assert compute(left, right, torch.int64) == exact
    assert compute(left // 2, right, torch.int32) == {
        "add": left // 2 + right, "sub": left // 2 - right, "mul": left // 2 * right
    }[operation]  # fmt: skip
    with pytest.raises(InterpreterError, match="overflow"):
        compute(left, right, torch.int32)
