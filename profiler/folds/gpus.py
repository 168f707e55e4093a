"""What NVML said of each device."""

from __future__ import annotations

from collections import deque
from statistics import fmean
from typing import Final

import msgspec

from profiler.events import GpuAbsent, GpuSample

CAPACITY: Final = 256
MAX_DEVICES: Final = 64
_NS_PER_S: Final = 1_000_000_000


class GpuSecond(msgspec.Struct, frozen=True, array_like=True):
    """One device over one second: means of rates, the highest of memory and temperature."""

    second: int
    device: int
    samples: int
    util_pct: float | None
    mem_util_pct: float | None
    mem_used_bytes: int
    power_w: float | None
    temp_c: float | None
    sm_mhz: float | None


class GpuHistory:
    """`samples` holds the newest 256, oldest first; `first_energy_mj` is the device's own counter
    when we first read it."""

    def __init__(self) -> None:
        self.samples: deque[GpuSample] = deque(maxlen=CAPACITY)
        self.first_energy_mj: int | None = None

    @property
    def last(self) -> GpuSample:
        return self.samples[-1]

    @property
    def energy_j(self) -> float | None:
        """Since the session's first reading."""
        if self.last.energy_mj is None or self.first_energy_mj is None:
            return None
        return (self.last.energy_mj - self.first_energy_mj) / 1e3


class GpusFrame(msgspec.Struct, array_like=True):
    samples: dict[int, list[GpuSample]]
    first_energies_mj: dict[int, int | None]
    absent: GpuAbsent | None


class Gpus:
    """`devices` by NVML index; `absent` says why there are none to sample, once that is known.
    Both empty: nobody looked yet."""

    def __init__(self) -> None:
        self.devices: dict[int, GpuHistory] = {}
        self.absent: GpuAbsent | None = None

    def sample(self, event: GpuSample) -> None:
        history = self.devices.get(event.device)
        if history is None:
            if len(self.devices) >= MAX_DEVICES:
                return
            history = self.devices[event.device] = GpuHistory()
            self.absent = None
        if history.first_energy_mj is None:
            history.first_energy_mj = event.energy_mj
        history.samples.append(event)

    def missing(self, event: GpuAbsent) -> None:
        self.absent = event

    def mem_used_bytes(self, name: str) -> int | None:
        """On the one device called `name` that our processes are on; None where it is not known
        which that is."""
        named = [h.last for h in self.devices.values() if h.last.name == name]
        ours = [sample for sample in named if sample.process_mem_bytes] or named
        return ours[0].mem_used_bytes if len(ours) == 1 else None

    def seconds(self, second: int) -> list[GpuSecond]:
        """One row for each device that was read in `second`."""
        rows = []
        for device, history in self.devices.items():
            chosen = [s for s in history.samples if s.t_ns // _NS_PER_S == second]
            if chosen:
                rows.append(_second(second, device, chosen))
        return rows

    def freeze(self) -> GpusFrame:
        return GpusFrame(
            {device: list(history.samples) for device, history in self.devices.items()},
            {device: history.first_energy_mj for device, history in self.devices.items()},
            self.absent,
        )

    def thaw(self, frame: GpusFrame) -> None:
        """Raises: ValueError when a device has no samples."""
        self.absent = frame.absent
        for device, samples in frame.samples.items():
            if not samples:
                raise ValueError("a device without samples")
            history = self.devices[device] = GpuHistory()
            history.samples.extend(samples)
            history.first_energy_mj = frame.first_energies_mj.get(device)


def _second(second: int, device: int, samples: list[GpuSample]) -> GpuSecond:
    return GpuSecond(
        second,
        device,
        len(samples),
        _mean([s.util_pct for s in samples]),
        _mean([s.mem_util_pct for s in samples]),
        max(s.mem_used_bytes for s in samples),
        _mean([s.power_w for s in samples]),
        max((s.temp_c for s in samples if s.temp_c is not None), default=None),
        _mean([s.sm_mhz for s in samples]),
    )


def _mean(values: list[float | None] | list[int | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
