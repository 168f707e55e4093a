"""How the loops between the matrix products are compiled: by numba, once a machine and version.

A body is a loop that every thread of a team (team.py) calls with the same array of int64: first the
team's words, COUNTER to SCRATCH_BYTES, then its own from FIRST on. Tensors are addresses in it.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import platformdirs
from numba import carray, njit, types

from engine.cpu.openmp import thread_number

COUNTER, NUM_THREADS, SCRATCH, SCRATCH_BYTES, FIRST = 0, 1, 2, 3, 4
HERE: Final = Path(__file__).parent


def cache_folder() -> Path:
    """A folder for these very sources: numba's cache looks at the file of a body, and not at the
    files of what the body calls, so that a change there would go unseen."""
    sources = b"".join(file.read_bytes() for file in sorted(HERE.glob("*.py")))
    name = f"loops-{hashlib.sha256(sources).hexdigest()[:16]}"
    if os.access(HERE, os.W_OK):
        return HERE / "__pycache__" / name
    return Path(platformdirs.user_cache_dir("llmtop", appauthor=False)) / name


class Body(NamedTuple):
    """A compiled loop, void(int64 *). `owner` keeps the code in memory."""

    name: str
    address: int
    call: Callable[..., None]
    owner: Any


def jit_body(body: Callable[..., None]) -> Body:
    """The body compiled, or from the cache of an earlier start."""
    signature = types.void(types.CPointer(types.int64))
    folder = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        code = numba.cfunc(signature, cache=True, fastmath=True, error_model="numpy")(body)
        return Body(body.__name__, code.address, code.ctypes, code)
    finally:
        numba.config.CACHE_DIR = folder


@njit
def own_share(words, count):
    """The range of 0 <= i < count that is this thread's."""
    w = carray(words, (FIRST,))
    thread, threads = np.int64(thread_number()), w[NUM_THREADS]
    return count * thread // threads, count * (thread + 1) // threads
