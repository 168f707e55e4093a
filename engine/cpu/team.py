"""torch's own OpenMP threads, at work on a compiled loop."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import torch

from engine.cpu.openmp import OPENMP

if TYPE_CHECKING:
    from engine.cpu.compiled import Body

ALIGNMENT: Final = 64
# More than any body has.
_WORDS: Final = ctypes.c_int64 * 32


class Team:
    """Runs compiled bodies on `num_threads` threads, and owns their scratch memory.

    Without OpenMP the caller's thread works alone.
    """

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads if OPENMP else 1
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._scratch_bytes = 0

    def reserve(self, num_floats: int) -> None:
        """Each thread gets scratch memory for so many floats, at least."""
        if 4 * num_floats > self._scratch_bytes:
            self._scratch_bytes = -(-4 * num_floats // ALIGNMENT) * ALIGNMENT
            self._scratch = torch.empty(self._num_threads * self._scratch_bytes, dtype=torch.uint8)

    def run(self, body: Body, *words: int) -> None:
        """All threads call `body`; returns when the last is done."""
        array = self._array(self._num_threads, words)
        if OPENMP is None:
            body.call(array)
        else:
            OPENMP.parallel(
                ctypes.c_void_p(body.address), array, ctypes.c_uint(self._num_threads), 0
            )

    def run_alone(self, body: Body, *words: int) -> None:
        """The caller's thread does all of it: waking others costs more than a row takes."""
        body.call(self._array(1, words))

    def _array(self, num_threads: int, words: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
        scratch = self._scratch.data_ptr(), self._scratch_bytes
        return _WORDS(0, num_threads, *scratch, *words)
