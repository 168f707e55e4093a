"""What the machine has: which device, how much memory of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import torch

from engine.config import EngineConfig
from engine.errors import EngineError

CGROUP_FILES: Final = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def choose_device(config: EngineConfig) -> torch.device:
    """The configured device, or CUDA where there is one. Raises: EngineError."""
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise EngineError("no CUDA device was found", "take --device cpu, or look at the driver")
    return torch.device("cuda" if has_cuda and config.device != "cpu" else "cpu")


def thread_count(wanted: int | None) -> int:
    """How many threads a CPU engine runs: those asked for, or one a core that we may use."""
    return wanted or len(os.sched_getaffinity(0))


def device_name(device: torch.device) -> str:
    """What a person would call it: "NVIDIA H200", or the processor and its threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{_cpu_model()} ({torch.get_num_threads()} threads)"


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device's allocator, torch's for the CPU or numpy had no memory to give."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def cpu_memory_available(proc: Path = Path("/proc/meminfo")) -> int:
    """Bytes that this process can still take: the system's, or its control group's if less."""
    return min([_meminfo(proc), *(_cgroup_left(*files) for files in CGROUP_FILES)])


def process_bytes() -> int:
    """Bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _meminfo(path: Path) -> int:
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_left(limit_file: str, usage_file: str) -> int:
    """Bytes below the control group's limit; without one, more than any machine has."""
    try:
        limit, usage = Path(limit_file).read_text(), Path(usage_file).read_text()
        return max(0, int(limit) - int(usage))
    except (OSError, ValueError):
        return 1 << 62


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "CPU"
