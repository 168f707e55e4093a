"""Which of the assemblers that Triton brings turns its kernels into machine code.

CUDA 12.8's (12.8.93, with Triton 3.6) loses registers on Hopper: where a kernel multiplies with
more operands in shared memory than uniform registers can describe, some descriptors are made of
whatever a register held. Prefill over 2-bit values read foreign shared memory on an H100, or gave
wrong sums. CUDA 12.9's assembler, which comes beside it for newer devices, does not.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import EngineError

OWN_CHOICE: Final = "TRITON_PTXAS_PATH"  # Triton's variable
FIRST_SOUND: Final = (12, 9)


class Assembler(NamedTuple):
    path: str
    version: str  # as "12.9"

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))


@cache
def use_best_assembler() -> None:
    """To be called before Triton compiles anything. Raises: EngineError if there is none."""
    os.environ[OWN_CHOICE] = best_assembler().path


def best_assembler() -> Assembler:
    """The user's own choice, or the better one of those that Triton brings. Does not import it.

    Raises: EngineError if there is none.
    """
    if own_choice := os.environ.get(OWN_CHOICE):
        return _asked(Path(own_choice))
    triton = find_spec("triton")
    if triton is None or triton.origin is None:
        raise EngineError("Triton is not installed", "pip install triton")
    own, newer = (
        Path(triton.origin).parent / "backends" / "nvidia" / "bin" / name
        for name in ("ptxas", "ptxas-blackwell")
    )
    return newest_usable(_asked(own), [_asked(newer)] if newer.exists() else [])


def newest_usable(own: Assembler, others: Iterable[Assembler]) -> Assembler:
    """Not beyond `own`'s major release: a driver need not load what a later one makes."""
    same = [other for other in others if other.release[0] == own.release[0]]
    return max([own, *same], key=lambda tool: tool.release)


def _asked(path: Path) -> Assembler:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"{path} does not run: {error}", "pip install triton") from error
    version = re.search(r"release (\d+\.\d+)", said.stdout)
    if version is None:
        raise EngineError(f"{path} does not say its version", f"Unset {OWN_CHOICE}.")
    return Assembler(str(path), version[1])
