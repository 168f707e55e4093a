"""Programmatic dependent launch: a kernel starts while the one before it in the stream still ends.

A kernel that takes part waits for the one before, and only then touches memory that this one reads
or writes. What others wrote earlier is there at once: the one before let go after its own wait.
Each program has to wait, or the kernel after the next could run ahead of the one before.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

HOPPER = (9, 0)


@triton.jit
def begin_next(OVERLAPS: tl.constexpr):
    """Lets the next kernel start, once all programs of this one have come here or ended."""
    if OVERLAPS:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def wait_for_previous(OVERLAPS: tl.constexpr):
    """Returns when all that kernels before this one have written is there."""
    if OVERLAPS:
        tl.extra.cuda.gdc_wait()


@cache
def is_hopper(device: torch.device) -> bool:
    """Whether it is a GPU of that generation or a later one."""
    return device.type == "cuda" and bool(torch.cuda.get_device_capability(device) >= HOPPER)


def overlap(device: torch.device) -> dict[str, Any]:
    """The launch arguments of a kernel with a parameter OVERLAPS; it is off before Hopper."""
    if not is_hopper(device):
        return {"OVERLAPS": False}
    return {"OVERLAPS": True, "launch_pdl": True}
