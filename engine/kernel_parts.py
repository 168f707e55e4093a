"""Which part of a step a kernel computes, told by its name: ours, cuBLAS's, cuDNN's, oneDNN's."""

from __future__ import annotations

from typing import Final

# In this order: cuDNN's attention is also a product by its name.
_SIGNS: Final = (
    ("attention", ("_decode_kernel", "_prefill_kernel", "sdpa", "fmha", "flash_", "attend")),
    ("linear", ("_rows_kernel", "gemm", "gemv", "nvjet", "splitk", "linear_pointwise")),
)
_OPERATORS: Final = frozenset({"aten::mm", "aten::addmm", "aten::linear", "aten::bmm"})


def part_of(name: str) -> str:
    """As `KernelRow.part` says."""
    if name in _OPERATORS:
        return "linear"
    lowered = name.lower()
    return next((part for part, signs in _SIGNS if any(s in lowered for s in signs)), "")
