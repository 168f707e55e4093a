"""What a device runs, by torch's profiler: its kernels, or on a CPU operators and our own loops."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from engine.kernel_parts import part_of
from profiler.events import KernelRow

if TYPE_CHECKING:
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
        rows = self._kernels() if self._on_cuda else self._operators()
        return shortened([row for row in rows if row.time_ns > 0])

    def _kernels(self) -> list[KernelRow]:
        """Summed here: torch's own sums took 1.9 s for 64 steps on an H100, and requests wait."""
        calls: Counter[str] = Counter()
        time_ns: Counter[str] = Counter()
        for event in self._profile.profiler.kineto_results.events():
            if event.device_type() == DeviceType.CUDA and not event.is_user_annotation():
                name = event.name()
                calls[name] += 1
                time_ns[name] += event.duration_ns()
        return [_row(name, calls[name], time_ns[name]) for name in calls]

    def _operators(self) -> list[KernelRow]:
        return [
            _row(average.key, average.count, round(average.self_cpu_time_total * 1000))
            for average in self._profile.key_averages()
        ]


def _row(name: str, calls: int, time_ns: int) -> KernelRow:
    return KernelRow(name[:MAX_NAME], calls, time_ns, part_of(name))


def shortened(rows: list[KernelRow]) -> tuple[KernelRow, ...]:
    """At most MAX_ROWS of them by time, descending, and the rest as a row named OTHERS a part."""
    ordered = sorted(rows, key=lambda row: -row.time_ns)
    kept, rest = ordered[:MAX_ROWS], ordered[MAX_ROWS:]
    for part in sorted({row.part for row in rest}):
        alike = [row for row in rest if row.part == part]
        calls, time_ns = sum(row.calls for row in alike), sum(row.time_ns for row in alike)
        kept.append(KernelRow(OTHERS, calls, time_ns, part))
    return tuple(kept)
