"""What a device runs, by torch's profiler: its kernels, or on a CPU operators and our own loops."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from torch.profiler import ProfilerActivity, profile

from engine.kernel_parts import part_of
from profiler.events import KernelRow

if TYPE_CHECKING:
    from torch.autograd.profiler_util import FunctionEventAvg

    from engine.attention import Backend

MAX_ROWS: Final = 60
MAX_NAME: Final = 160
OTHERS: Final = "others"


class KernelProfile:
    """One run of the profiler, from `start` to `stop`; whoever stops has waited for the device."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._on_cuda = backend.device.type == "cuda"
        kind = ProfilerActivity.CUDA if self._on_cuda else ProfilerActivity.CPU
        self._profile = profile(activities=[kind])
        self._named = ExitStack()

    def start(self) -> None:
        self._profile.start()
        self._named.enter_context(self._backend.named())

    def stop(self) -> tuple[KernelRow, ...]:
        """The rows with the most time first, and the rest as one."""
        self._named.close()
        self._profile.stop()
        rows = [self._row(average) for average in self._profile.key_averages()]
        return shortened([row for row in rows if row.time_ns > 0])

    def _row(self, average: FunctionEventAvg) -> KernelRow:
        on_device, on_cpu = average.self_device_time_total, average.self_cpu_time_total
        time_us = on_device if self._on_cuda else on_cpu
        name, time_ns = average.key, round(time_us * 1000)
        return KernelRow(name[:MAX_NAME], average.count, time_ns, part_of(name))


def shortened(rows: list[KernelRow]) -> tuple[KernelRow, ...]:
    """At most MAX_ROWS of them by time, descending, and the rest as a row named OTHERS a part."""
    ordered = sorted(rows, key=lambda row: -row.time_ns)
    kept, rest = ordered[:MAX_ROWS], ordered[MAX_ROWS:]
    for part in sorted({row.part for row in rest}):
        alike = [row for row in rest if row.part == part]
        calls, time_ns = sum(row.calls for row in alike), sum(row.time_ns for row in alike)
        kept.append(KernelRow(OTHERS, calls, time_ns, part))
    return tuple(kept)
