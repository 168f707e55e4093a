"""What NVML says of each device, now and over the last minutes; or why it says nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llmtop.format import NONE, grouped, nice_ceiling, percent, short, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.chart import Values, area
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row, fit_row, joined
from profiler.events import GpuSample
from profiler.folds.gpus import GpuHistory, GpuSecond
from profiler.state import SessionState

_FACTS: Final = 6
_CHART_FROM: Final = _FACTS + 4
_BAR: Final = 20


class GpuBoard(Panel):
    """Every device gets the same share of the panel; charts appear where there is room."""

    about = (
        "Every device as NVML, or an exporter beside the server, reads it: clocks, power, memory, "
        "what throttles it; or why there is none."
    )

    def title(self, view: View) -> Row:
        count = len(view.state.gpus.devices)
        return (("GPU", "title"), (f" {count} devices" if count > 1 else "", "dim"))

    def note(self, view: View) -> str:
        devices = view.state.gpus.devices
        return (devices[min(devices)].last.source or "NVML") if devices else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        devices = view.state.gpus.devices
        if not devices:
            return [absence(view.state)]
        each = max(1, height // len(devices))
        rows: list[Row] = []
        for number, history in sorted(devices.items()):
            rows += device_rows(view.state, number, history, width, each)
        return rows


def absence(state: SessionState) -> Row:
    """Why there is no device to show: never zeros in its place."""
    absent = state.gpus.absent
    if absent is None:
        return (("no NVML reading yet", "dim"),)
    if state.foreign.last is not None:
        return (("no device: ", "warn"), (clean_line(absent.reason), "text"))
    return (("no NVML device: ", "warn"), (clean_line(absent.reason), "text"))


def device_rows(
    state: SessionState, number: int, history: GpuHistory, width: int, height: int
) -> list[Row]:
    """Exactly `height` rows: the head, facts as far as they fit, then charts."""
    last = history.last
    head: Row = (
        (f"{number} ", "key"),
        (clean_line(last.name), "value"),
        (f"  {_age(state, last)}", "dim"),
    )
    rows = [head, *_facts(last, history, width)][:height]
    if height >= _CHART_FROM:
        rows += [EMPTY, *_charts(state, number, last, width, height - len(rows) - 1)]
    return (rows + [EMPTY] * height)[:height]


def _age(state: SessionState, last: GpuSample) -> str:
    age_s = (state.t_ns - last.t_ns) / 1e9
    return f"! read {age_s:.0f} s ago" if age_s > 3 else ""


def _facts(last: GpuSample, history: GpuHistory, width: int) -> list[Row]:
    room = max(4, min(_BAR, width - 44))
    return [
        _gauge("util", last.util_pct, 100.0, f"{_number(last.util_pct)} %", room, "chart"),
        _gauge(
            "memory",
            last.mem_used_bytes,
            last.mem_total_bytes,
            f"{size(last.mem_used_bytes)} of {size(last.mem_total_bytes)}"
            f", engine {size(last.process_mem_bytes)}",
            room,
            "kv",
        ),
        _gauge("power", last.power_w, last.power_limit_w, _power(last, history), room, "act"),
        joined(
            [
                _pair("clocks ", f"{grouped(last.sm_mhz)} MHz sm, {grouped(last.mem_mhz)} mem"),
                _pair("temperature ", f"{_number(last.temp_c)} C"),
            ]
        ),
        joined([_throttle(last.throttle), _pcie(last), _pair("mem busy ", _busy(last))]),
    ]


def _pair(label: str, text: str) -> Row:
    return ((label, "dim"), (text, "value"))


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f}"


def _gauge(
    label: str, part: float | None, whole: float | None, text: str, room: int, role: str
) -> Row:
    drawn: Row = ((" " * room, "text"),)
    if part is not None and whole:
        drawn = bar(part, whole, room, role)
    return ((f"{label:<7}", "dim"), *drawn, (f" {text}", "value"))


def _power(last: GpuSample, history: GpuHistory) -> str:
    energy = "" if history.energy_j is None else f", {short(history.energy_j)} J this session"
    return f"{_number(last.power_w)} of {_number(last.power_limit_w)} W{energy}"


def _throttle(reason: str | None) -> Row:
    if reason is None:
        return _pair("throttle ", NONE)
    return (("throttle ", "dim"), (clean_line(reason) or "no", "bad" if reason else "good"))


def _pcie(last: GpuSample) -> Row:
    received, sent = last.pcie_rx_bytes_per_s, last.pcie_tx_bytes_per_s
    return _pair("pcie ", f"in {_rate(received)}, out {_rate(sent)}")


def _rate(bytes_per_s: int | None) -> str:
    return NONE if bytes_per_s is None else f"{size(bytes_per_s)}/s"


def _busy(last: GpuSample) -> str:
    return percent(last.mem_util_pct)


def _charts(
    state: SessionState, number: int, last: GpuSample, width: int, height: int
) -> list[Row]:
    """Util, power, memory and clock, one value a second, beside each other."""
    seconds = [row for row in state.seconds.gpu_rows if row.device == number]
    charts: list[tuple[str, float, Values, str]] = [
        ("util, 0-100 %", 100.0, _series(seconds, lambda s: s.util_pct), "chart"),
        _scaled("power", "W", _series(seconds, lambda s: s.power_w), last.power_limit_w, "act"),
        _scaled(
            "memory",
            "GiB",
            _series(seconds, lambda s: s.mem_used_bytes / 2**30),
            last.mem_total_bytes / 2**30,
            "kv",
        ),
        _scaled("sm clock", "MHz", _series(seconds, lambda s: s.sm_mhz), None, "chart2"),
    ]
    across = 2 if width >= 60 else 1
    down = len(charts) // across
    if height < 3 * down:
        charts, down = charts[:across], 1
    return _tiled(charts, across, width, height // down)


def _series(seconds: list[GpuSecond], value: Callable[[GpuSecond], float | None]) -> Values:
    return [value(second) for second in seconds]


def _scaled(
    label: str, unit: str, values: Values, top: float | None, role: str
) -> tuple[str, float, Values, str]:
    """A chart up to `top`, the device's own limit; without one up to a round number."""
    top = top or nice_ceiling(max((v for v in values if v is not None), default=0.0))
    return (f"{label}, 0-{top:.0f} {unit}", top, values, role)


def _tiled(
    charts: list[tuple[str, float, Values, str]], across: int, width: int, height: int
) -> list[Row]:
    cell = width // across
    rows: list[Row] = []
    for first in range(0, len(charts), across):
        blocks = [_block(chart, cell - 2, height) for chart in charts[first : first + across]]
        rows += [
            tuple(span for row in line for span in fit_row(row, cell))
            for line in zip(*blocks, strict=True)
        ]
    return rows


def _block(chart: tuple[str, float, Values, str], width: int, height: int) -> list[Row]:
    label, top, values, role = chart
    return [((label, "dim"),), *area(values, width, height - 1, top, role)]
