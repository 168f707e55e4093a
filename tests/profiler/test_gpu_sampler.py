"""What devices tell, do not tell, and that there may be none: with a made-up NVML and the real."""

from __future__ import annotations

import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from profiler.events import AnyEvent, GpuAbsent, GpuSample
from profiler.gpu import Device, GpuSampler, throttle_words


class FakeNvml(ModuleType):
    """One device by default; names in `refused` raise as NVML does for what it does not support."""

    NVML_PCIE_UTIL_RX_BYTES = 1
    NVML_PCIE_UTIL_TX_BYTES = 0
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):
        pass

    def __init__(self, count: int = 1, refused: tuple[str, ...] = ()) -> None:
        super().__init__("fake_nvml")
        self.count = count
        self.refused = refused
        self.started = 0
        self.error: Exception | None = None

    def nvmlInit(self) -> None:
        if self.error is not None:
            raise self.error
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def answer(self, call: str, value: Any) -> Any:
        if call in self.refused:
            raise self.NVMLError("Not Supported")
        return value

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return self.answer("name", b"NVIDIA Fake" if handle else "NVIDIA Fake")

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return self.answer("memory", SimpleNamespace(used=3 << 30, total=10 << 30))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return self.answer("utilization", SimpleNamespace(gpu=97, memory=41))

    def nvmlDeviceGetPowerUsage(self, handle: int) -> Any:
        return self.answer("power", 512_300)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> Any:
        return self.answer("limit", 700_000)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> Any:
        return self.answer("temperature", 61)

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> Any:
        return self.answer("clock", {1: 1980, 2: 2619}[clock])

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> Any:
        return self.answer("reasons", 0x4 | 0x40 | 0x1)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> Any:
        return self.answer("energy", 123_456_789)

    def nvmlDeviceGetPcieThroughput(self, handle: int, counter: int) -> Any:
        return self.answer("pcie", 100 if counter == self.NVML_PCIE_UTIL_RX_BYTES else 200)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        processes = [(10, 1 << 30), (11, 2 << 30), (99, 4 << 30), (12, None)]
        return self.answer(
            "processes", [SimpleNamespace(pid=p, usedGpuMemory=m) for p, m in processes]
        )


EVERY_CALL = (
    "utilization", "power", "limit", "temperature", "clock", "reasons", "energy", "pcie",
    "processes", "name",
)  # fmt: skip


def published(nvml: ModuleType | None, wanted: int, **options: Any) -> list[AnyEvent]:
    """What a sampler says until it said `wanted` things."""
    events: list[AnyEvent] = []
    enough = threading.Event()

    def publish(event: AnyEvent) -> None:
        events.append(event)
        if len(events) >= wanted:
            enough.set()

    sampler = GpuSampler(publish, nvml=nvml, **options)
    sampler.start()
    assert enough.wait(10)
    sampler.stop()
    return events


def test_a_sample_holds_every_reading() -> None:
    nvml = FakeNvml()
    device = Device(nvml, 0)
    device.read_slow({10, 11, 12})
    assert device.sample(5) == GpuSample(
        5, 0, "NVIDIA Fake", 3 << 30, 10 << 30, process_mem_bytes=3 << 30, util_pct=97.0,
        mem_util_pct=41.0, power_w=pytest.approx(512.3), power_limit_w=pytest.approx(700.0),
        temp_c=61.0, sm_mhz=1980, mem_mhz=2619, throttle="power cap, hardware thermal",
        energy_mj=123_456_789, pcie_rx_bytes_per_s=102_400, pcie_tx_bytes_per_s=204_800,
    )  # fmt: skip


@pytest.mark.parametrize("refused", EVERY_CALL)
def test_what_a_device_refuses_is_none_and_nothing_else(refused: str) -> None:
    whole, partial = (Device(FakeNvml(refused=r), 0) for r in ((), (refused,)))
    for device in (whole, partial):
        device.read_slow({10})
    one, other = whole.sample(0), partial.sample(0)
    assert one is not None and other is not None
    changed = {
        name for name in GpuSample.__struct_fields__ if getattr(one, name) != getattr(other, name)
    }
    fields = {
        "utilization": {"util_pct", "mem_util_pct"},
        "power": {"power_w"},
        "limit": {"power_limit_w"},
        "temperature": {"temp_c"},
        "clock": {"sm_mhz", "mem_mhz"},
        "reasons": {"throttle"},
        "energy": {"energy_mj"},
        "pcie": {"pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s"},
        "processes": {"process_mem_bytes"},
        "name": {"name"},
    }
    assert changed == fields[refused]
    if refused != "name":
        assert all(getattr(other, name) is None for name in changed)


def test_a_device_without_memory_readings_gives_no_sample() -> None:
    assert Device(FakeNvml(refused=("memory",)), 0).sample(0) is None


def test_processes_that_nvml_does_not_know_are_unknown_not_zero() -> None:
    device = Device(FakeNvml(), 0)
    device.read_slow({7})
    sample = device.sample(0)
    assert sample is not None and sample.process_mem_bytes is None


@pytest.mark.parametrize(
    ("bits", "words"), [(None, None), (0, ""), (1, ""), (0x28, "hardware slowdown, thermal")]
)
def test_throttle_words(bits: int | None, words: str | None) -> None:
    assert throttle_words(bits) == words


def test_sampler_reads_every_device_in_turn_and_leaves_nvml() -> None:
    nvml = FakeNvml(count=2)
    events = published(nvml, 4, pids=lambda: {10})
    assert [e.device for e in events[:4] if isinstance(e, GpuSample)] == [0, 1, 0, 1]
    assert nvml.started == 0
    assert {e.device for e in published(FakeNvml(count=3), 2, devices=[2])} == {2}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FakeNvml.NVMLError_LibraryNotFound(), "the NVML library is not installed"),
        (FakeNvml.NVMLError("Driver Not Loaded"), "NVML does not start: Driver Not Loaded"),
    ],
)
def test_no_nvml_is_said_once_with_its_reason(error: Exception, reason: str) -> None:
    nvml = FakeNvml()
    nvml.error = error
    events = published(nvml, 1)
    assert [(type(e), e.reason) for e in events if isinstance(e, GpuAbsent)] == [
        (GpuAbsent, reason)
    ]


def test_no_device_is_said_too() -> None:
    (event,) = published(FakeNvml(count=0), 1)
    assert isinstance(event, GpuAbsent) and event.reason == "NVML sees no device"


def test_the_real_nvml_samples_or_says_why_not() -> None:
    """Here without a device: one GpuAbsent with words; with one: a plausible reading."""
    event = published(None, 1)[0]
    if isinstance(event, GpuSample):
        assert 0 < event.mem_used_bytes <= event.mem_total_bytes
        assert event.name
    else:
        assert isinstance(event, GpuAbsent) and len(event.reason) > 10


@pytest.mark.gpu
def test_a_real_device_tells_power_and_energy() -> None:
    events = published(None, 6)
    samples = [e for e in events if isinstance(e, GpuSample)]
    assert samples, events
    last = samples[-1]
    assert last.power_w is not None and 1 < last.power_w < 2000
    assert last.temp_c is not None and 10 < last.temp_c < 120
    assert last.sm_mhz is not None and last.sm_mhz > 0
    energies = [s.energy_mj for s in samples if s.device == last.device and s.energy_mj is not None]
    assert energies == sorted(energies)
