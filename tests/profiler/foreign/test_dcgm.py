"""A DCGM exporter's page in our units; what it does not tell is not zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from profiler.errors import StreamError
from profiler.foreign.dcgm import devices_of

LABELS = '{gpu="%d", UUID="GPU-%d", modelName="NVIDIA H100 80GB HBM3", Hostname="box"%s}'
REAL = Path(__file__).parents[2] / "data" / "metrics" / "dcgm.prom"


def page(device: int = 0, more: str = "", **values: float) -> str:
    labels = LABELS % (device, device, more)
    return "".join(f"DCGM_FI_{name}{labels} {value}\n" for name, value in values.items())


WHOLE = page(
    DEV_FB_USED=1024, DEV_FB_FREE=79_000, DEV_FB_RESERVED=535, DEV_GPU_UTIL=97,
    DEV_MEM_COPY_UTIL=41, DEV_POWER_USAGE=512.3, DEV_TOTAL_ENERGY_CONSUMPTION=7_000_123,
    DEV_SM_CLOCK=1980, DEV_MEM_CLOCK=2619, DEV_GPU_TEMP=54, PROF_PCIE_RX_BYTES=1e6,
    PROF_PCIE_TX_BYTES=2e6,
)  # fmt: skip


def test_units_are_ours() -> None:
    (gpu,) = devices_of(WHOLE, 7)
    assert (gpu.t_ns, gpu.device, gpu.name, gpu.source) == (7, 0, "NVIDIA H100 80GB HBM3", "DCGM")
    assert (gpu.mem_used_bytes, gpu.mem_total_bytes) == (1024 << 20, (1024 + 79_000 + 535) << 20)
    assert (gpu.util_pct, gpu.mem_util_pct, gpu.temp_c) == (97, 41, 54)
    assert (gpu.power_w, gpu.energy_mj) == (512.3, 7_000_123)
    assert (gpu.sm_mhz, gpu.mem_mhz) == (1980, 2619)
    assert (gpu.pcie_rx_bytes_per_s, gpu.pcie_tx_bytes_per_s) == (1_000_000, 2_000_000)
    assert gpu.throttle is gpu.power_limit_w is gpu.process_mem_bytes is None


def test_what_is_not_told_or_blank_is_unknown() -> None:
    blank = page(DEV_GPU_TEMP=9223372036854775794)
    (gpu,) = devices_of(page(DEV_FB_USED=1, DEV_FB_FREE=1) + blank, 0)
    assert gpu.temp_c is gpu.util_pct is gpu.power_w is gpu.sm_mhz is None


def test_each_device_once_and_none_for_a_slice() -> None:
    memory = {"DEV_FB_USED": 1.0, "DEV_FB_FREE": 1.0}
    slices = page(2, ', GPU_I_ID="3", GPU_I_PROFILE="1g.10gb"', **memory)
    text = page(1, **memory) + WHOLE + slices + page(99, **memory) + "DCGM_FI_DEV_FB_USED 3\n"
    assert [gpu.device for gpu in devices_of(text, 0)] == [0, 1]
    with pytest.raises(StreamError, match="MIG"):
        devices_of(slices, 0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (REAL.read_text(), "does not tell DCGM_FI_DEV_FB_USED"),
        ("vllm:x 1\n", "no page of a DCGM exporter"),
        ("", "no page of a DCGM exporter"),
        ("DCGM_FI_DEV_FB_USED{gpu=", "no page of a DCGM exporter"),
    ],
)
def test_a_page_without_devices_says_why(text: str, why: str) -> None:
    with pytest.raises(StreamError, match=why):
        devices_of(text, 0)
