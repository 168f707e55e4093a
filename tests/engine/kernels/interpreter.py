"""Triton's interpreter without what it does over and over: half of the time of these tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from triton import language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter

EXACT = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def patch_once_a_launch() -> None:
    """The interpreter patches Triton's language at every call of a device function, to the same end
    as at the launch that it is part of.
    """
    patch = interpreter._patch_lang

    def patch_once(fn: Any) -> Any:
        seen = [value for value in fn.__globals__.values() if value is tl or value is tl.core]
        return patch(fn) if any(tl.core.is_builtin(lang.load) for lang in seen) else None

    interpreter._patch_lang = patch_once


def expect_no_overflow(semantic: Any, lhs: Any, rhs: Any, operation: Any) -> None:
    """The check that goes with each sum and product of integers, in one step of numpy's where
    Triton takes eight of its own."""
    kind = lhs.type.scalar
    assert kind.is_int() and kind == rhs.type.scalar
    if kind.int_bitwidth >= 64 or not semantic.builder.options.sanitize_overflow:
        return
    wide = (side.handle.data.astype(np.int64) for side in (lhs, rhs))
    exact = EXACT[operation.__name__](*wide)
    low, high = kind.get_int_min_value(), kind.get_int_max_value()
    assert low <= exact.min() and exact.max() <= high, f"{kind} overflows: {operation.__name__}"


def look_up_dtypes() -> None:
    """Triton makes a table of all of numpy's dtypes whenever it asks for one of them."""
    make, made = interpreter._get_np_dtype, {}

    def look_up(kind: Any) -> Any:
        scalar = kind.scalar
        if scalar.is_ptr():
            return make(scalar)
        if scalar.name not in made:
            made[scalar.name] = make(scalar)
        return made[scalar.name]

    interpreter._get_np_dtype = look_up


def make_faster() -> None:
    """To be called before any kernel is interpreted."""
    patch_once_a_launch()
    TritonSemantic.binary_op_sanitize_overflow_impl = expect_no_overflow
    look_up_dtypes()
