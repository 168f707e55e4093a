"""torch's own OpenMP threads, at work on a compiled loop."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

import torch
from llvmlite import binding

if TYPE_CHECKING:
    from engine.cpu.compiled import Body

ALIGNMENT: Final = 64
# More than any body has.
_WORDS: Final = ctypes.c_int64 * 32


def _openmp() -> tuple[Any, Any] | None:
    """OpenMP's "run by all" and "which thread am I" of the library that torch has loaded.

    A second OpenMP library would bring threads of its own, and two teams that wait for each other's
    cores take ten times as long as one.
    """
    loaded = ctypes.CDLL(None)
    try:
        return loaded.GOMP_parallel, loaded.omp_get_thread_num
    except AttributeError:
        return None


_OPENMP: Final = _openmp()
_ALONE: Final = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)
# The compiled loops ask for it by this name.
binding.add_symbol(
    "omp_get_thread_num",
    ctypes.cast(_OPENMP[1] if _OPENMP else _ALONE, ctypes.c_void_p).value,
)


class Team:
    """Runs bodies of loops.py on `num_threads` threads, and owns their scratch memory.

    Where torch brings no OpenMP that speaks gcc's dialect, the caller's thread works alone.
    """

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads if _OPENMP else 1
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
        if _OPENMP is None:
            body.call(array)
        else:
            _OPENMP[0](ctypes.c_void_p(body.address), array, ctypes.c_uint(self._num_threads), 0)

    def run_alone(self, body: Body, *words: int) -> None:
        """The caller's thread does all of it: waking others costs more than a row takes."""
        body.call(self._array(1, words))

    def _array(self, num_threads: int, words: tuple[int, ...]) -> ctypes.Array[ctypes.c_int64]:
        scratch = self._scratch.data_ptr(), self._scratch_bytes
        return _WORDS(0, num_threads, *scratch, *words)
