"""The devices in a few lines; without one, why there is none."""

from __future__ import annotations

from llmtop.format import NONE, grouped, percent, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.nearness import nearness
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, joined
from llmtop.widgets.wrapping import wrapped
from profiler.events import GpuSample


class Devices(Panel):
    about = (
        "The first device as NVML reads it, how near the engine comes to what it can do, or why "
        "there is none."
    )

    def title(self, view: View) -> Row:
        devices = view.state.gpus.devices
        if not devices:
            return (("GPU", "title"),)
        first = min(devices)
        name = clean_line(devices[first].last.name)
        return ((f"GPU {first} ", "title"), (name, "dim"))

    def note(self, view: View) -> str:
        others = len(view.state.gpus.devices) - 1
        return f"and {others} more: 4" if others > 0 else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        gpus = view.state.gpus
        if not gpus.devices:
            return _no_device_lines(view, width)
        lines = gpu_lines(gpus.devices[min(gpus.devices)].last, width)
        return [*lines, nearness(view, width)][:height]


def _no_device_lines(view: View, width: int) -> list[Row]:
    (head, role), *reason = no_device(view)
    why = "".join(text for text, _ in reason).removeprefix(": ")
    rows: list[Row] = [((head, role),)]
    session = view.state.session
    if session is not None and not session.upstream:
        rows.append((("runs on ", "dim"), (clean_line(session.device), "text")))
        rows.append(nearness(view, width))
    return [*rows, *(((line, "dim"),) for line in wrapped(why, width) if line)]


def no_device(view: View) -> Row:
    """Why no GPU is shown."""
    absent = view.state.gpus.absent
    if absent is None:
        return (("nobody has looked for one yet", "dim"),)
    return (("no NVML device", "value"), (f": {clean_line(absent.reason)}", "dim"))


def gpu_lines(gpu: GpuSample, width: int) -> list[Row]:
    """Utilisation, power and clocks, memory."""
    room = max(4, width - 34)
    return [
        (
            ("memory ", "dim"),
            *bar(gpu.mem_used_bytes, gpu.mem_total_bytes, room, "kv"),
            (f" {size(gpu.mem_used_bytes)} of {size(gpu.mem_total_bytes)}", "value"),
        ),
        joined((_part("busy", gpu.util_pct, "%"), _power(gpu), _part("", gpu.temp_c, " °C"))),
        joined((_part("SM", gpu.sm_mhz, " MHz"), _throttle(gpu))),
    ]


def gpu_line(gpu: GpuSample) -> Row:
    """One device on a narrow screen."""
    memory: Row = (
        ("memory ", "dim"),
        (percent(gpu.mem_used_bytes, gpu.mem_total_bytes), "value"),
        (f" of {size(gpu.mem_total_bytes)}", "dim"),
    )
    temperature = _part("", gpu.temp_c, " °C")
    return joined((_part("busy", gpu.util_pct, "%"), memory, _power(gpu), temperature))


def _part(name: str, value: float | None, unit: str) -> Row:
    lead = f"{name} " if name else ""
    return ((lead, "dim"), (NONE if value is None else grouped(value), "value"), (unit, "dim"))


def _power(gpu: GpuSample) -> Row:
    limit = "" if gpu.power_limit_w is None else f" of {gpu.power_limit_w:.0f}"
    return (*_part("power", gpu.power_w, ""), (f"{limit} W", "dim"))


def _throttle(gpu: GpuSample) -> Row:
    if gpu.throttle is None:
        return (("throttle ", "dim"), (NONE, "value"))
    if not gpu.throttle:
        return (("not throttled", "dim"),)
    return (("throttled: ", "dim"), (clean_line(gpu.throttle), "warn"))
