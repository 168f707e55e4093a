"""Which of the assemblers that Triton brings turns its kernels into machine code.

CUDA 12.8's (12.8.93, with Triton 3.6) loses registers on Hopper: where a kernel multiplies with
more operands in shared memory than uniform registers can describe, some descriptors are made of
whatever a register held. Prefill over 2-bit values read foreign shared memory on an H100, or gave
wrong sums. CUDA 12.9's assembler, which comes beside it for newer devices, does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import triton

OWN_CHOICE = "TRITON_PTXAS_PATH"  # Triton's variable


class Assembler(NamedTuple):
    path: str
    version: str  # as "12.9"

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))


@cache
def choose_assembler() -> None:
    """Has Triton use the better one, before it compiles anything; the user's own is left alone."""
    tools = triton.knobs.nvidia
    if OWN_CHOICE not in os.environ and not triton.knobs.runtime.interpret:
        own, other = (
            Assembler(tool.path, tool.version) for tool in (tools.ptxas, tools.ptxas_blackwell)
        )
        tools.ptxas = newest_usable(own, [other]).path


def newest_usable(own: Assembler, others: Iterable[Assembler]) -> Assembler:
    """Not beyond `own`'s major release: a driver need not load what a later one makes."""
    same = [other for other in others if other.release[0] == own.release[0]]
    return max([own, *same], key=lambda tool: tool.release)
