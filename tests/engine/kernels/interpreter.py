"""Triton's interpreter: it refuses foreign memory, and does without what it does over and over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
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


def share_shapes() -> None:
    """Triton makes the type of a block and the shape of a tensor anew for each value."""
    make, shapes, known = tl.core.block_type.__init__, {}, {}

    def block(self: Any, element: Any, shape: Any) -> None:
        key = id(element), tuple(size if type(size) is int else size.value for size in shape)
        if key not in known:
            make(self, element, shape)
            # The element is kept, or another one could get its id.
            known[key] = {**self.__dict__, "element_ty": element}
        self.__dict__.update(known[key])

    def tensor(self: Any, handle: Any, type: Any) -> None:
        shape = type.shape if type.is_block() else ()
        if shape not in shapes:
            sizes = tl.core.tuple([tl.constexpr(size) for size in shape])
            shapes[shape] = sizes, tl.constexpr(math.prod(shape))
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shapes[shape]

    tl.core.block_type.__init__, tl.tensor.__init__ = block, tensor


class OwnMemory:
    """The storages that a launch was given: no element beside them may be read or written.

    The interpreter reads whatever lies there, and a GPU fails only where nothing is mapped.
    """

    def __init__(self) -> None:
        self._begins = self._ends = np.zeros(0, np.uint64)

    def enter(self, arguments: Iterable[Any]) -> None:
        storages = [tensor.untyped_storage() for tensor in tensors_of(arguments)]
        spans = sorted({(storage.data_ptr(), storage.nbytes()) for storage in storages})
        self._begins = np.array([begin for begin, _ in spans], np.uint64)
        self._ends = np.array([begin + size for begin, size in spans], np.uint64)

    def expect_inside(self, pointers: Any, mask: Any) -> None:
        """Raises: AssertionError for an address that is foreign or not a multiple of its size."""
        size = pointers.get_element_ty().primitive_bitwidth // 8
        addresses = np.atleast_1d(pointers.data)[np.atleast_1d(mask.data)]
        owner = np.searchsorted(self._begins, addresses, "right").astype(np.int64) - 1
        inside = (owner >= 0) & (addresses + np.uint64(size) <= self._ends[owner])
        assert inside.all(), f"{(~inside).sum()} of {inside.size} addresses are foreign"
        assert not (addresses % np.uint64(size)).any(), f"addresses are not multiples of {size}"


def tensors_of(arguments: Iterable[Any]) -> Iterator[torch.Tensor]:
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from tensors_of(argument)
        elif isinstance(argument, torch.Tensor):
            yield argument
        elif isinstance(getattr(argument, "base", None), torch.Tensor):
            yield argument.base


def refuse_foreign_memory() -> None:
    """Has every load and store checked against the storages of its launch."""
    own, builder = OwnMemory(), interpreter.InterpreterBuilder
    copy_in, load, store = (
        interpreter.GridExecutor._init_args_hst,
        builder.create_masked_load,
        builder.create_masked_store,
    )

    def enter(executor: Any, args: Any, kwargs: Any) -> Any:
        on_host = copy_in(executor, args, kwargs)
        own.enter([*on_host[0], *on_host[1].values()])
        return on_host

    def checked_load(self: Any, pointers: Any, mask: Any, *rest: Any, **options: Any) -> Any:
        own.expect_inside(pointers, mask)
        return load(self, pointers, mask, *rest, **options)

    def checked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        own.expect_inside(pointers, mask)
        return store(self, pointers, value, mask, *rest)

    interpreter.GridExecutor._init_args_hst = enter
    builder.create_masked_load, builder.create_masked_store = checked_load, checked_store


def make_faster() -> None:
    """To be called before any kernel is interpreted."""
    patch_once_a_launch()
    TritonSemantic.binary_op_sanitize_overflow_impl = expect_no_overflow
    look_up_dtypes()
    share_shapes()
