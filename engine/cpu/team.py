"""torch's own OpenMP threads, at work on a compiled loop."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import torch
from torch.autograd.profiler import record_function

from engine.cpu.openmp import OPENMP

if TYPE_CHECKING:
    from engine.cpu.compiled import Body

ALIGNMENT: Final = 64
_UNNAMED: Final = nullcontext()
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
        self._is_named = False

    @contextmanager
    def named(self) -> Iterator[None]:
        """Within it each body that is run is an operator of its name to torch's profiler."""
        self._is_named = True
        try:
            yield
        finally:
            self._is_named = False

    def reserve(self, num_floats: int) -> None:
        """Each thread gets scratch memory for so many floats, at least."""
        if 4 * num_floats > self._scratch_bytes:
            self._scratch_bytes = -(-4 * num_floats // ALIGNMENT) * ALIGNMENT
            self._scratch = torch.empty(self._num_threads * self._scratch_bytes, dtype=torch.uint8)

    def run(self, body: Body, *words: int) -> None:
        """All threads call `body`; returns when the last is done."""
        array = self._array(self._num_threads, words)
        with self._label(body):
            if OPENMP is None:
                body.call(array)
            else:
                OPENMP.parallel(
                    ctypes.c_void_p(body.address), array, ctypes.c_uint(self._num_threads), 0
                )

    def run_alone(self, body: Body, *words: int) -> None:
        """The caller's thread does all of it: waking others costs more than a row takes."""
        with self._label(body):
            body.call(self._array(1, words))

    def _label(self, body: Body) -> AbstractContextManager[object]:
        return record_function(body.name) if self._is_named else _UNNAMED

    def _array(self, num_threads: int, words: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
        scratch = self._scratch.data_ptr(), self._scratch_bytes
        return _WORDS(0, num_threads, *scratch, *words)
