"""What the GPU is and how it is clocked, by NVML; empty without one."""

from __future__ import annotations

from typing import Any


class Gpu:
    """Device 0, which the engines take."""

    def __init__(self) -> None:
        self._handle: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # no driver, no device or no package: all the same here
            self._handle = None

    def facts(self) -> dict[str, Any]:
        if self._handle is None:
            return {}
        nvml, handle = self._nvml, self._handle
        return {
            "gpu": nvml.nvmlDeviceGetName(handle),
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "memory_mib": nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20,
            "sm_max_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "power_limit_w": nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3,
        }

    def now(self) -> dict[str, Any]:
        """Clock, power and heat at this moment: right after a call they are still the call's."""
        if self._handle is None:
            return {}
        nvml, handle = self._nvml, self._handle
        return {
            "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "temp_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        }
