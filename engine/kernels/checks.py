"""What the kernel wrappers ask of their arguments, with errors that name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = (torch.bfloat16, torch.float16, torch.float32)
INTEGERS = (torch.int32, torch.int64)


def expect_shape(name: str, tensor: Tensor, shape: Sequence[int | None]) -> None:
    """None in `shape` stands for any size. Raises ValueError."""
    fits = len(shape) == tensor.dim() and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} must have shape ({wanted}), not {tuple(tensor.shape)}")


def expect_dtype(name: str, tensor: Tensor, allowed: Sequence[torch.dtype]) -> None:
    """Raises TypeError."""
    if tensor.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise TypeError(f"{name} must be {names}, not {str(tensor.dtype).removeprefix('torch.')}")


def expect_unit_stride(name: str, tensor: Tensor) -> None:
    """The last axis must be dense. Raises ValueError."""
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        raise ValueError(
            f"{name} must be dense in its last axis, its strides are {tensor.stride()}"
        )


def expect_contiguous(name: str, tensor: Tensor) -> None:
    """Raises ValueError."""
    if not tensor.is_contiguous():
        raise ValueError(f"{name} must be contiguous, its strides are {tensor.stride()}")


def expect_device(name: str, tensor: Tensor, device: torch.device) -> None:
    """Raises ValueError."""
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device}, not on {tensor.device}")
