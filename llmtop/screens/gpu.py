"""The GPU tab: devices, or why there are none; the engine's memory, processes and steps."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.gpuboard import GpuBoard
from llmtop.widgets.memorysplit import MemorySplit
from llmtop.widgets.processtable import ProcessTable
from llmtop.widgets.stepbars import StepBars

SIDE_FROM: Final = 100
_SIDE_WIDTH: Final = 44
_ABSENT_HEIGHT: Final = 2
_BOARD_LEAST: Final = 8
_MEMORY_HEIGHT: Final = 8
_PROCESSES_HEIGHT: Final = 5
_STEPS_FROM: Final = 4


class GpuPage(Page):
    """Without a device its panel shrinks to the reason, and the engine's panels take the room."""

    DEFAULT_CSS = """
    GpuPage Container { width: 1fr; height: 1fr; }
    GpuPage #gpu-own { height: auto; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._has_device = False

    def compose(self) -> ComposeResult:
        yield GpuBoard(id="gpu-devices")
        with Container(id="gpu-engine"):
            with Container(id="gpu-own"):
                yield MemorySplit(id="gpu-memory", top="├┤")
                yield ProcessTable(id="gpu-processes", top="├┤")
            yield StepBars(id="gpu-steps", top="├┤", bottom="└┘")

    def show(self, view: View) -> None:
        has_device = bool(view.state.gpus.devices)
        if has_device != self._has_device:
            self._has_device = has_device
            self.lay_out(self.size.width, self.size.height)
        super().show(view)

    def lay_out(self, width: int, height: int) -> None:
        wide = width >= SIDE_FROM
        beside = wide and self._has_device
        engine, own = self.query_one("#gpu-engine"), self.query_one("#gpu-own")
        board, memory = self.query_one(GpuBoard), self.query_one(MemorySplit)
        processes, steps = self.query_one(ProcessTable), self.query_one(StepBars)
        self.styles.layout = "horizontal" if beside else "vertical"
        engine.styles.width = _SIDE_WIDTH if beside else "1fr"
        below = height - _ABSENT_HEIGHT
        if self._has_device and not beside:
            below = min(height - _BOARD_LEAST, _MEMORY_HEIGHT + _PROCESSES_HEIGHT)
        engine.styles.height = "1fr" if beside else below
        board.styles.height = "1fr"
        in_row = wide and not beside
        own.styles.layout = "horizontal" if in_row else "vertical"
        memory.styles.height = _MEMORY_HEIGHT
        processes.styles.height = _MEMORY_HEIGHT if in_row else _PROCESSES_HEIGHT
        room = (height if beside else below) - _MEMORY_HEIGHT
        steps.display = room - (0 if in_row else _PROCESSES_HEIGHT) >= _STEPS_FROM
        for panel in self.panels():
            panel.compact = not wide
        board.bottom = "└┘" if beside else ""
        memory.top = "┌┐" if beside else "├┤"
        processes.bottom = "" if steps.display else "└┘"
