"""Devices as NVML tells of them; without one the reason, and the host."""

import asyncio
from collections.abc import Callable
from typing import Any

from llmtop.app import LlmtopApp
from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.gpuboard import absence, device_rows
from llmtop.widgets.memorysplit import MemorySplit
from llmtop.widgets.processtable import ProcessTable
from llmtop.widgets.rows import plain, width_of
from profiler.events import GpuAbsent, GpuSample, MemorySample
from profiler.state import SessionState

TextOf = Callable[[Any], str]
S = 1_000_000_000
GIB = 1 << 30


def sample(t_ns: int, device: int = 0, **facts: Any) -> GpuSample:
    told: dict[str, Any] = {
        "process_mem_bytes": 30 * GIB,
        "util_pct": 58.0,
        "mem_util_pct": 40.0,
        "power_w": 512.0,
        "power_limit_w": 700.0,
        "temp_c": 61.0,
        "sm_mhz": 1980,
        "mem_mhz": 3201,
        "throttle": "",
        "energy_mj": 1_000_000,
        "pcie_rx_bytes_per_s": 5 << 20,
        "pcie_tx_bytes_per_s": 1 << 20,
    }
    return GpuSample(t_ns, device, "NVIDIA H200", 32 * GIB, 140 * GIB, **{**told, **facts})


def state_of(*samples: GpuSample) -> SessionState:
    state = SessionState()
    for event in samples:
        state.apply(event)
    return state


def shown(state: SessionState, width: int = 76, height: int = 20) -> str:
    history = state.gpus.devices[0]
    rows = device_rows(state, 0, history, width, height)
    assert len(rows) == height
    assert all(width_of(row) <= width for row in rows)
    return "\n".join(plain(row) for row in rows)


def test_a_device_shows_what_nvml_said() -> None:
    text = shown(state_of(*(sample(i * S, energy_mj=1_000_000 + 512_000 * i) for i in range(5))))
    for fact in (
        "NVIDIA H200",
        "58 %",
        "32.0 GiB of 140 GiB, engine 30.0 GiB",
        "512 of 700 W, 2048 J this session",
        "1 980 MHz sm, 3 201 mem",
        "61 C",
        "throttle no",
        "in 5.0 MiB/s, out 1.0 MiB/s",
        "power, 0-700 W",
        "util, 0-100 %",
    ):
        assert fact in text


def test_what_the_device_does_not_tell_is_not_zero() -> None:
    silent = dict.fromkeys(
        ["util_pct", "power_w", "temp_c", "sm_mhz", "mem_mhz", "throttle", "energy_mj",
         "pcie_rx_bytes_per_s", "pcie_tx_bytes_per_s", "mem_util_pct", "process_mem_bytes"]
    )  # fmt: skip
    text = shown(state_of(sample(S, **silent)), height=6)
    assert "-- %" in text and "-- of 700 W" in text and "-- C" in text
    assert "throttle --" in text and "in --, out --" in text
    assert " 0 %" not in text


def test_a_throttled_device_names_the_reason_in_red() -> None:
    state = state_of(sample(S, throttle="sw_thermal"))
    rows = device_rows(state, 0, state.gpus.devices[0], 76, 6)
    assert ("sw_thermal", "bad") in [span for row in rows for span in row]


def test_a_reading_that_is_old_says_so() -> None:
    state = state_of(sample(S))
    state.advance(8 * S)
    assert "read 7 s ago" in shown(state, height=6)


def test_without_a_device_the_reason_stands_there() -> None:
    state = SessionState()
    assert plain(absence(state)) == "no NVML reading yet"
    state.apply(GpuAbsent(S, "libnvidia-ml.so.1 \x1b[31mis not there"))
    assert plain(absence(state)) == "no NVML device: libnvidia-ml.so.1 is not there"


def test_memory_parts_are_those_of_the_engine_and_sum_to_the_device() -> None:
    state = state_of(sample(S))
    state.apply(MemorySample(S, "NVIDIA H200", 14 * GIB, 14 * GIB, 2 * GIB, GIB, 140 * GIB))
    view = View(state, ViewModel(), "LIVE", Connection("connected"))
    text = "\n".join(plain(row) for row in MemorySplit(id="m").body(view, 44, 9))
    for part in ("weights       14.0 GiB  10%", "other          1.0 GiB", "free           108 GiB"):
        assert part in text


def test_on_a_cpu_nobody_claims_to_know_the_other_memory(busy_state: SessionState) -> None:
    view = View(busy_state, ViewModel(), "LIVE", Connection("connected"))
    text = "\n".join(plain(row) for row in MemorySplit(id="m").body(view, 44, 9))
    assert "other" not in text and "rest" in text


def test_a_process_that_fell_silent_shows_how_long_ago(busy_state: SessionState) -> None:
    view = View(busy_state, ViewModel(), "LIVE", Connection("connected"))
    panel = ProcessTable(id="p")
    assert "silent" not in "\n".join(plain(row) for row in panel.body(view, 60, 9))
    busy_state.advance(busy_state.t_ns + 20 * S)
    assert "silent for 2" in "\n".join(plain(row) for row in panel.body(view, 60, 9))


async def test_the_tab_changes_its_shape_when_a_device_appears(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4")
        app.frame()
        await pilot.pause()
        text = text_of(app)
        assert "no NVML device: libnvidia-ml.so.1 is not there" in text
        assert "weights" in text and "4711" in text
        busy_source.feed([sample(busy_source.state.t_ns)])
        async with asyncio.timeout(10):
            while "NVIDIA H200" not in text_of(app):
                app.frame()
                await pilot.pause()
        assert "no NVML" not in text_of(app)
