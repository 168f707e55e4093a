"""What the kernel wrappers ask of their arguments, with errors that name the argument.

A step of a model checks hundreds of tensors while the device waits for its next launch, so each
check is one comparison. Which device a tensor is on is left to Triton: it refuses the host's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = frozenset((torch.bfloat16, torch.float16, torch.float32))
INTEGERS = frozenset((torch.int32, torch.int64))


def expect_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raises: ValueError."""
    if tensor.shape != shape:
        raise ValueError(f"{name} must have shape {tuple(shape)}, not {tuple(tensor.shape)}")


def expect_dims(name: str, tensor: Tensor, dims: str) -> None:
    """`dims` names each axis, as in "T H D". Raises: ValueError."""
    names = dims.split()
    if tensor.dim() != len(names):
        raise ValueError(f"{name} must be ({', '.join(names)}), not {tuple(tensor.shape)}")


def expect_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raises: TypeError."""
    if tensor.dtype is not dtype:
        raise TypeError(f"{name} must be {_spelled(dtype)}, not {_spelled(tensor.dtype)}")


def expect_dtype_in(name: str, tensor: Tensor, allowed: frozenset[torch.dtype]) -> None:
    """Raises: TypeError."""
    if tensor.dtype not in allowed:
        names = " or ".join(sorted(_spelled(dtype) for dtype in allowed))
        raise TypeError(f"{name} must be {names}, not {_spelled(tensor.dtype)}")


def expect_dense_rows(name: str, tensor: Tensor) -> None:
    """The last axis has a stride of 1. Raises: ValueError."""
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        raise ValueError(
            f"{name} must be dense in its last axis, its strides are {tensor.stride()}"
        )


def expect_contiguous(name: str, tensor: Tensor) -> None:
    """Raises: ValueError."""
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous, its strides are {tensor.stride()}")


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
