"""Where the device's memory went, as one bar."""

from __future__ import annotations

from typing import Final

from llmtop.format import size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import stacked
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, flowed

_LOOKS: Final = {
    "weights": ("█", "weights"),
    "kv": ("▓", "kv"),
    "activations": ("▒", "act"),
    "graphs": ("▚", "graph"),
    "other": ("░", "other"),
}

_TITLE_CELLS: Final = 14


class MemoryUse(Panel):
    about = "The engine's memory in parts, of all that the device has."
    inside = "memory"

    def title(self, view: View) -> Row:
        return (("Memory", "title"),)

    def note(self, view: View) -> str:
        sample = view.state.memory.last
        if sample is None:
            return ""
        whole = size(sample.total_bytes)
        room = self.inner[0] - len(whole) - _TITLE_CELLS
        return f"{clean_line(sample.device)[: max(0, room)].strip()}, {whole}"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        memory = view.state.memory
        parts = [(name, num) for name, num in memory.parts() if num]
        if not parts:
            return [(("the engine has not told yet", "dim"),)]
        looks = [(float(num), *_LOOKS[name]) for name, num in parts]
        whole = float(memory.total_bytes or 0) or sum(num for _, num in parts)
        return [stacked(looks, whole, width), *_legend(parts, width)][:height]


def _legend(parts: list[tuple[str, int]], width: int) -> list[Row]:
    items: list[Row] = []
    for name, num in parts:
        glyph, role = _LOOKS[name]
        items.append(((f"{glyph} ", role), (f"{name} ", "dim"), (size(num), "value")))
    return flowed(items, width)
