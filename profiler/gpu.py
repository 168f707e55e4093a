"""Reads NVIDIA devices through NVML, from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any, Final

from profiler.events import AnyEvent, GpuAbsent, GpuSample

PERIOD_S: Final = 0.2
# PCIe counters take 20 ms each to read (NVML measures while the caller waits); each other reading
# takes 0.5 ms on an H200, so that what changes slowly is read slowly.
SLOW_EVERY: Final = 5
_THROTTLE_WORDS: Final = {
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clocks",
}
Publish = Callable[[AnyEvent], object]


class GpuSampler:
    """Publishes a `GpuSample` per device five times a second, or one `GpuAbsent` with the reason.

    A reading that a device refuses is None in the sample; a device whose memory cannot be read
    gives no sample. Memory, utilization, power, energy and the processors' clock are of that very
    moment; the rest is read once a second and repeated.
    `pids` tells whose memory is "ours"; `devices` limits which NVML indices are read.
    """

    def __init__(
        self,
        publish: Publish,
        pids: Callable[[], Collection[int]] = tuple,
        devices: Collection[int] | None = None,
        nvml: ModuleType | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._publish = publish
        self._pids = pids
        self._devices = devices
        self._nvml = nvml
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llmtop-gpu", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has left NVML."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        nvml = self._nvml or _import_nvml()
        if nvml is None:
            self._absent("the Python module pynvml cannot be imported")
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self._absent(_why_absent(nvml, error))
            return
        try:
            self._sample_until_stopped(nvml)
        except nvml.NVMLError as error:
            self._absent(f"NVML cannot list the devices: {error}")
        finally:
            _shut_down(nvml)

    def _sample_until_stopped(self, nvml: ModuleType) -> None:
        devices = [
            Device(nvml, index)
            for index in range(nvml.nvmlDeviceGetCount())
            if self._devices is None or index in self._devices
        ]
        if not devices:
            self._absent("NVML sees no device")
        turn = 0
        while devices and not self._stopping.is_set():
            for device in devices:
                if turn % SLOW_EVERY == 0:
                    device.read_slow(self._pids())
                sample = device.sample(self._clock())
                if sample is not None:
                    self._publish(sample)
            turn += 1
            self._stopping.wait(PERIOD_S)

    def _absent(self, reason: str) -> None:
        self._publish(GpuAbsent(self._clock(), reason))


class Device:
    """One device and the newest of its slow readings."""

    def __init__(self, nvml: ModuleType, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self._name = _text(self._read("nvmlDeviceGetName")) or f"device {index}"
        # Fields of the next samples by name; none known before the first slow reading.
        self._slow: dict[str, Any] = {}

    def _read(self, call: str, *arguments: object) -> Any:
        """What NVML answers, None where it refuses or does not know the call."""
        function = getattr(self._nvml, call, None)
        if function is None:
            return None
        try:
            return function(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None

    def read_slow(self, pids: Collection[int]) -> None:
        nvml, read = self._nvml, self._read
        celsius = read("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)
        self._slow = {
            "process_mem_bytes": self._memory_of(pids),
            "power_limit_w": _scaled(read("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
            "temp_c": _scaled(celsius, 1.0),
            "mem_mhz": read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            "throttle": throttle_words(self._throttle_bits()),
            "pcie_rx_bytes_per_s": _kib(
                read("nvmlDeviceGetPcieThroughput", nvml.NVML_PCIE_UTIL_RX_BYTES)
            ),
            "pcie_tx_bytes_per_s": _kib(
                read("nvmlDeviceGetPcieThroughput", nvml.NVML_PCIE_UTIL_TX_BYTES)
            ),
        }

    def _memory_of(self, pids: Collection[int]) -> int | None:
        """None where NVML does not list these processes: in a container it may know other ids."""
        processes = self._read("nvmlDeviceGetComputeRunningProcesses") or ()
        ours = [p.usedGpuMemory for p in processes if p.pid in pids]
        known = [size for size in ours if size is not None]
        return sum(known) if known else None

    def sample(self, t_ns: int) -> GpuSample | None:
        nvml = self._nvml
        memory = self._read("nvmlDeviceGetMemoryInfo")
        if memory is None:
            return None
        utilization = self._read("nvmlDeviceGetUtilizationRates")
        return GpuSample(
            t_ns,
            self._index,
            self._name,
            mem_used_bytes=int(memory.used),
            mem_total_bytes=int(memory.total),
            util_pct=None if utilization is None else float(utilization.gpu),
            mem_util_pct=None if utilization is None else float(utilization.memory),
            power_w=_scaled(self._read("nvmlDeviceGetPowerUsage"), 1e-3),
            sm_mhz=self._read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            energy_mj=self._read("nvmlDeviceGetTotalEnergyConsumption"),
            **self._slow,
        )

    def _throttle_bits(self) -> int | None:
        bits: int | None = self._read("nvmlDeviceGetCurrentClocksEventReasons")
        return self._read("nvmlDeviceGetCurrentClocksThrottleReasons") if bits is None else bits


def throttle_words(bits: int | None) -> str | None:
    """What holds the clocks down, "" if nothing does; that the device is idle is no throttling."""
    if bits is None:
        return None
    return ", ".join(word for bit, word in _THROTTLE_WORDS.items() if bits & bit)


def _import_nvml() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    module: ModuleType = pynvml
    return module


def _why_absent(nvml: ModuleType, error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibraryNotFound):
        return "the NVML library is not installed"
    return f"NVML does not start: {error}"


def _shut_down(nvml: ModuleType) -> None:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        # Nothing depends on it any more, and the process may be about to end.
        pass


def _text(name: str | bytes | None) -> str | None:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _kib(value: int | None) -> int | None:
    """NVML counts PCIe throughput in units of 1024 bytes per second."""
    return None if value is None else value * 1024
