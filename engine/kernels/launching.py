"""How kernels start: each at once, or all of them compiled first, side by side, and none run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
import triton
from triton.tools.tensor_descriptor import TensorDescriptor

from engine.devices import thread_count
from engine.kernels.assembler import use_best_assembler
from engine.models.progress import Progress

# A kernel takes a second or two to compile, 200 MiB while it does, and Triton lets the interpreter
# go on meanwhile: 30 kernels took 24 s one by one on a 16-core host of an H100.
MOST_COMPILERS: Final = 16
POINTER_ALIGNMENT: Final = 16  # bytes; whether a pointer has it is compiled in

# In `compiling_ahead`, the launches that have been compiled for; None elsewhere.
_compiled_for: ContextVar[set[object] | None] = ContextVar("compiled_for", default=None)


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
    """Starts `kernel`, a jitted function, on the current stream; in `compiling_ahead` it does not,
    and what it would have written stays as it was."""
    use_best_assembler()
    compiled_for = _compiled_for.get()
    if compiled_for is None:
        kernel[grid](*args, **kwargs)
        return
    # Triton takes a millisecond to see that a kernel is being compiled: not once for each layer.
    asked = (kernel, *map(_kind, args), *kwargs.items())
    if asked not in compiled_for:
        compiled_for.add(asked)
        kernel.warmup(*args, grid=grid, **kwargs)


def _kind(argument: Any) -> object:
    """All of an argument that a kernel may be compiled for."""
    if isinstance(argument, torch.Tensor):
        return argument.dtype, argument.data_ptr() % POINTER_ALIGNMENT
    if isinstance(argument, TensorDescriptor):
        return argument.base.dtype, *argument.block_shape
    return type(argument), argument


class _Compilers(Executor):
    """Threads that compile a kernel and load it, which Triton else does at its first launch."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._is_stopped = False

    def submit(self, compile_kernel: Callable[[], Any], /) -> Future[Any]:  # type: ignore[override]
        return self._threads.submit(self._loaded, compile_kernel)

    def stop(self) -> None:
        """What has not begun yet fails at once: Triton waits for all, cancelled ones for ever."""
        self._is_stopped = True

    def _loaded(self, compile_kernel: Callable[[], Any]) -> Any:
        if self._is_stopped:
            raise CancelledError
        kernel = compile_kernel()
        _ = kernel.run  # makes its launcher with the C compiler and loads it
        return kernel


@contextmanager
def compiling_ahead(device: torch.device, progress: Progress) -> Iterator[None]:
    """Within it `launch` compiles and nothing runs; its end waits for the compilers.

    A kernel that does not compile is left to its first launch, which says so. What interrupts the
    waiting waits for the kernels that are being compiled, a few seconds, and for no others.
    """
    number = torch.cuda.current_device() if device.type == "cuda" else None
    make = ThreadPoolExecutor(min(MOST_COMPILERS, thread_count(None)), "compiler", _use, (number,))
    with make as threads:
        compilers = _Compilers(threads)
        with triton.AsyncCompileMode(compilers, ignore_errors=True) as mode:
            token = _compiled_for.set(set())
            try:
                yield
                _tell(mode.raw_futures, progress)
            except BaseException:
                compilers.stop()
                raise
            finally:
                _compiled_for.reset(token)


def _tell(compiled: list[Future[Any]], progress: Progress) -> None:
    for done, _ in enumerate(as_completed(compiled), 1):
        progress("compile", done, len(compiled), "kernels")


def _use(number: int | None) -> None:
    """A thread begins on device 0, whatever the main one uses."""
    if number is not None:
        torch.cuda.set_device(number)
