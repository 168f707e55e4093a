"""Devices as a DCGM exporter tells of them.

Source: NVIDIA's dcgm-exporter, default-counters.csv: memory in MiB, energy in mJ, utilisation in %.
"""

from __future__ import annotations

from typing import Final

from profiler.errors import StreamError
from profiler.events import GpuSample
from profiler.foreign.page import PageReader, Sample

PREFIX: Final = "DCGM_FI_"
_MIB: Final = 1 << 20
_MOST: Final = 64
_FIELDS: Final = {
    "util": "DEV_GPU_UTIL",
    "mem_util": "DEV_MEM_COPY_UTIL",
    "used": "DEV_FB_USED",
    "free": "DEV_FB_FREE",
    "reserved": "DEV_FB_RESERVED",
    "total": "DEV_FB_TOTAL",
    "power": "DEV_POWER_USAGE",
    "limit": "DEV_POWER_MGMT_LIMIT",
    "energy": "DEV_TOTAL_ENERGY_CONSUMPTION",
    "sm": "DEV_SM_CLOCK",
    "mem": "DEV_MEM_CLOCK",
    "temp": "DEV_GPU_TEMP",
    "rx": "PROF_PCIE_RX_BYTES",
    "tx": "PROF_PCIE_TX_BYTES",
}
_NAMES: Final = {PREFIX + name: key for key, name in _FIELDS.items()}


def devices_of(text: str, t_ns: int) -> list[GpuSample]:
    """One sample a device that tells of its memory, by the exporter's own numbers.

    Slices of a device (MIG) are left out: they are not the device. Raises: StreamError, with why,
    for a page that has none.
    """
    found: dict[int, dict[str, float]] = {}
    names: dict[int, str] = {}
    has_slices = False
    for samples in PageReader(PREFIX, _NAMES).read(text).samples.values():
        for sample in samples:
            device = _device(sample)
            if sample.labels.get("GPU_I_ID"):
                has_slices = True
            elif device is not None:
                found.setdefault(device, {}).setdefault(_NAMES[sample.name], sample.value)
                names[device] = sample.labels.get("modelName", "GPU")
    told = [
        _sample(t_ns, device, names[device], values)
        for device, values in sorted(found.items())
        if "used" in values and ("free" in values or "total" in values)
    ]
    if not told:
        raise StreamError(_why(bool(found), has_slices))
    return told


def _why(has_devices: bool, has_slices: bool) -> str:
    if has_devices:
        return "the exporter does not tell DCGM_FI_DEV_FB_USED and DCGM_FI_DEV_FB_FREE"
    if has_slices:
        return "the exporter tells of slices of devices alone (MIG)"
    return "this is no page of a DCGM exporter"


def _device(sample: Sample) -> int | None:
    text = sample.labels.get("gpu", "")
    return int(text) if text.isdecimal() and len(text) < 4 and int(text) < _MOST else None


def _sample(t_ns: int, device: int, name: str, values: dict[str, float]) -> GpuSample:
    used = values["used"]
    total = values.get("total", used + values.get("free", 0.0) + values.get("reserved", 0.0))
    return GpuSample(
        t_ns,
        device,
        name,
        int(used * _MIB),
        int(total * _MIB),
        util_pct=values.get("util"),
        mem_util_pct=values.get("mem_util"),
        power_w=values.get("power"),
        power_limit_w=values.get("limit"),
        temp_c=values.get("temp"),
        sm_mhz=_whole(values.get("sm")),
        mem_mhz=_whole(values.get("mem")),
        energy_mj=_whole(values.get("energy")),
        pcie_rx_bytes_per_s=_whole(values.get("rx")),
        pcie_tx_bytes_per_s=_whole(values.get("tx")),
        source="DCGM",
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
