"""How kernels start: each at once, or all of them compiled first, side by side, and none run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
import triton

from engine.devices import thread_count
from engine.models.progress import Progress

# A kernel takes a second or two to compile, 200 MiB while it does, and Triton lets the interpreter
# go on meanwhile: 30 kernels took 24 s one by one on a 16-core host of an H100.
MOST_COMPILERS: Final = 16

_only_compiles: ContextVar[bool] = ContextVar("only_compiles", default=False)


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
    """Starts `kernel`, a jitted function, on the current stream; in `compiling_ahead` it does not,
    and what it would have written stays as it was."""
    if _only_compiles.get():
        kernel.warmup(*args, grid=grid, **kwargs)
    else:
        kernel[grid](*args, **kwargs)


class _Compilers(Executor):
    """Threads that compile a kernel and load it, which Triton else does at its first launch."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def submit(self, compile_kernel: Callable[[], Any], /) -> Future[Any]:  # type: ignore[override]
        return self._threads.submit(_loaded, compile_kernel)


def _loaded(compile_kernel: Callable[[], Any]) -> Any:
    kernel = compile_kernel()
    _ = kernel.run  # makes its launcher with the C compiler and loads it
    return kernel


@contextmanager
def compiling_ahead(device: torch.device, progress: Progress) -> Iterator[None]:
    """Within it `launch` compiles and nothing runs; its end waits for the compilers.

    Raises: what the compiler raises.
    """
    make = ThreadPoolExecutor(min(MOST_COMPILERS, thread_count(None)), "compiler", _use, (device,))
    with make as threads, triton.AsyncCompileMode(_Compilers(threads)) as mode:
        token = _only_compiles.set(True)
        try:
            yield
        finally:
            _only_compiles.reset(token)
        total = len(mode.raw_futures)
        for done, _ in enumerate(as_completed(mode.raw_futures)):
            progress("compile", done + 1, total, "kernels")


def _use(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
