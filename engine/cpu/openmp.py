"""The OpenMP library that torch has loaded: its threads also run our compiled loops.

A second OpenMP library would bring threads of its own, and two teams that wait for each other's
cores take ten times as long as one.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final, NamedTuple

import torch  # noqa: F401  (loads the library, and puts its symbols where they are found)
from llvmlite import binding
from numba import types


class OpenMP(NamedTuple):
    """`parallel(body, argument, num_threads, 0)` has every thread call the body."""

    parallel: Any
    thread_number: Any


def _loaded() -> OpenMP | None:
    """None where torch brings no OpenMP that speaks gcc's dialect."""
    process = ctypes.CDLL(None)
    try:
        return OpenMP(process.GOMP_parallel, process.omp_get_thread_num)
    except AttributeError:
        return None


OPENMP: Final = _loaded()
_FIRST: Final = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)
_NAME: Final = "omp_get_thread_num"
binding.add_symbol(
    _NAME, ctypes.cast(OPENMP.thread_number if OPENMP else _FIRST, ctypes.c_void_p).value
)
# Inside a compiled loop: which of the team's threads this is, from 0.
thread_number: Final = types.ExternalFunction(_NAME, types.int32())
