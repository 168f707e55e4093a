"""Measures how fast the device reads its memory and multiplies matrices."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Final, NamedTuple

import torch

from engine.ceilings import PHASE, Ceilings
from engine.config import EngineConfig
from engine.devices import choose_device, device_name, thread_count
from engine.models.progress import Progress

# Far beyond the caches of a data-centre GPU (50 MiB) and of most processors.
GPU_READ_BYTES: Final = 1 << 30
CPU_READ_BYTES: Final = 1 << 28
GPU_MATMUL_SIZE: Final = 8192
CPU_MATMUL_SIZE: Final = 1024
GPU_ROUNDS: Final = 15
CPU_ROUNDS: Final = 9
# Of each figure on a CPU, which may be slow, or busy with other things.
CPU_LIMIT_S: Final = 0.5


class Subject(NamedTuple):
    """A device with the number format that the engine would take on it."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, config: EngineConfig) -> Subject:
        """As `ModelRunner` chooses; sets the number of threads as it does. Raises: EngineError."""
        device = choose_device(config)
        if device.type != "cuda":
            torch.set_num_threads(thread_count(config.num_threads))
        if config.dtype != "auto":
            return cls(device, getattr(torch, config.dtype))
        if device.type == "cuda":
            return cls(device, torch.bfloat16)
        from engine.cpu.linear import fastest_dtype

        return cls(device, fastest_dtype())

    @property
    def device_name(self) -> str:
        return device_name(self.device)

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def measure(self, progress: Progress) -> Ceilings:
        """Takes up to 1.4 GiB of the device's memory and gives it back. Raises: RuntimeError."""
        on_cuda = self.device.type == "cuda"
        read, multiply = (_gpu_read, _gpu_matmul) if on_cuda else (_cpu_read, _cpu_matmul)
        with torch.inference_mode():
            progress(PHASE, 0, 2, "ceilings")
            read_bytes_per_s, how_read = read(self.device)
            progress(PHASE, 1, 2, "ceilings")
            matmul_flops_per_s, how_matmul = multiply(self.device, self.dtype)
            progress(PHASE, 2, 2, "ceilings")
        if on_cuda:
            torch.cuda.empty_cache()
        return Ceilings(
            self.device_name,
            self.dtype_name,
            read_bytes_per_s,
            matmul_flops_per_s,
            how_read,
            how_matmul,
        )


def _gpu_read(device: torch.device) -> tuple[float, str]:
    from engine.kernels.stream_read import stream_read

    data = torch.empty(GPU_READ_BYTES // 2, dtype=torch.bfloat16, device=device).normal_()
    seconds = _gpu_seconds(lambda: stream_read(data))
    return GPU_READ_BYTES / seconds, f"median of {GPU_ROUNDS} reads of 1 GiB by a Triton kernel"


def _gpu_matmul(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    n = GPU_MATMUL_SIZE
    # Random values: zeros cost less power, and the clock would not fall as it does at work.
    left, right = (torch.randn(n, n, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty_like(left)
    seconds = _gpu_seconds(lambda: torch.mm(left, right, out=out))
    return 2 * n**3 / seconds, f"median of {GPU_ROUNDS} products of {n} x {n} matrices"


def _gpu_seconds(work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(GPU_ROUNDS)]
    for begin, end in marks:
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize()
    times_ms = [float(begin.elapsed_time(end)) for begin, end in marks]
    return median(times_ms) / 1e3


def _cpu_read(device: torch.device) -> tuple[float, str]:
    data = torch.ones(CPU_READ_BYTES // 4, dtype=torch.float32, device=device)
    seconds, rounds = _cpu_seconds(lambda: data.sum())
    how = f"best of {rounds} sums over {CPU_READ_BYTES >> 20} MiB"
    return CPU_READ_BYTES / seconds, f"{how} with {torch.get_num_threads()} threads"


def _cpu_matmul(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    n = CPU_MATMUL_SIZE
    left, right = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    seconds, rounds = _cpu_seconds(lambda: torch.mm(left, right))
    how = f"best of {rounds} products of {n} x {n} matrices"
    return 2 * n**3 / seconds, f"{how} with {torch.get_num_threads()} threads"


def _cpu_seconds(work: Callable[[], object]) -> tuple[float, int]:
    """The shortest round and how many there were: neighbours can only make one longer."""
    work()
    times: list[float] = []
    stop = time.perf_counter() + CPU_LIMIT_S
    while len(times) < CPU_ROUNDS and (not times or time.perf_counter() < stop):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times), len(times)
