"""The GPU tab: devices, or why there are none; memory and processes of the engine."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.gpuboard import GpuBoard
from llmtop.widgets.memorysplit import MemorySplit
from llmtop.widgets.processtable import ProcessTable

SIDE_FROM: Final = 100
_SIDE_WIDTH: Final = 46
_ABSENT_HEIGHT: Final = 2
_MEMORY_HEIGHT: Final = 8


class GpuPage(Page):
    """Without a device its panel shrinks to the reason, and the host's panels take the room."""

    DEFAULT_CSS = "GpuPage Container { width: 1fr; height: 1fr; }"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._has_device = False

    def compose(self) -> ComposeResult:
        yield GpuBoard(id="gpu-devices")
        with Container(id="gpu-host"):
            yield MemorySplit(id="gpu-memory", top="├┤")
            yield ProcessTable(id="gpu-processes", top="├┤")

    def show(self, view: View) -> None:
        has_device = bool(view.state.gpus.devices)
        if has_device != self._has_device:
            self._has_device = has_device
            self.lay_out(self.size.width, self.size.height)
        super().show(view)

    def lay_out(self, width: int, height: int) -> None:
        wide = width >= SIDE_FROM
        beside = wide and self._has_device
        devices, host = self.query_one(GpuBoard), self.query_one("#gpu-host")
        memory, processes = self.query_one(MemorySplit), self.query_one(ProcessTable)
        self.styles.layout = "horizontal" if beside else "vertical"
        host.styles.layout = "vertical" if beside or not wide else "horizontal"
        host.styles.width = _SIDE_WIDTH if beside else "1fr"
        host.styles.height = "1fr" if beside or not self._has_device else height // 2
        devices.styles.height = "1fr" if self._has_device else _ABSENT_HEIGHT
        memory.styles.height = _MEMORY_HEIGHT if beside or not wide else "1fr"
        for panel in self.panels():
            panel.compact = not wide
        devices.bottom = "└┘" if beside else ""
        memory.top = "┌┐" if beside else "├┤"
        memory.bottom = "" if beside or not wide else "└┘"
        processes.bottom = "└┘"
