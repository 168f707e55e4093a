"""Events that samplers and the kernel profiler tell: devices, processes, memory, kernels."""

from __future__ import annotations

from typing import Final

import msgspec

from profiler.event import Event

MAX_CAPTURED_STEPS: Final = 512


class KernelRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One kernel of a window; on a CPU one operator, without those that it calls.

    `part` is "linear" for products with weights, "attention", or "" for all else and where it is
    not known.
    """

    name: str
    calls: int
    time_ns: int
    part: str = ""


class KernelWindow(Event, frozen=True, gc=False):
    """What the device ran from step `first_step` on, for `num_steps`, by torch's profiler.

    `begin_ns` is when the first of them was launched; the window is told when the last has ended.
    `cost_ns` is how long the engine stood still to start, stop and read the profiler:
    `start_cost_ns` of it right before `begin_ns`, the rest right before the window was told.
    Kernels are ordered by time; what is beyond the table's end is a row a part, named "others".
    `device_type` is "cuda", or "cpu" where rows are operators, as torch spells them.
    """

    begin_ns: int
    cost_ns: int
    first_step: int
    num_steps: int
    device_type: str
    kernels: tuple[KernelRow, ...]
    start_cost_ns: int = 0


class GpuSample(Event, frozen=True, gc=False):
    """One reading of one device, by NVML or what `source` names. None is "this device does not
    tell", never zero.

    `throttle` names why clocks are held down, "" if they are not. `process_mem_bytes` belongs to
    the engine's processes. Rates of PCIe are bytes per second over NVML's own 20 ms window.
    """

    device: int
    name: str
    mem_used_bytes: int
    mem_total_bytes: int
    process_mem_bytes: int | None = None
    util_pct: float | None = None
    mem_util_pct: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temp_c: float | None = None
    sm_mhz: int | None = None
    mem_mhz: int | None = None
    throttle: str | None = None
    energy_mj: int | None = None
    pcie_rx_bytes_per_s: int | None = None
    pcie_tx_bytes_per_s: int | None = None
    source: str = ""


class GpuAbsent(Event, frozen=True, gc=False):
    """There is no device to sample, and why."""

    reason: str


class ProcessSample(Event, frozen=True, gc=False):
    """One of our processes, once a second: the stream's heartbeat. `cpu_pct` 100 is one core."""

    role: str
    pid: int
    cpu_pct: float
    rss_bytes: int


class MemorySample(Event, frozen=True, gc=False):
    """Where the engine's device memory went. On CPU the device is the process's own memory.

    `kv_wide_bytes` of `kv_bytes` are wide pages, which are beside packed ones.
    """

    device: str
    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    graph_bytes: int
    total_bytes: int
    kv_wide_bytes: int = 0
