"""The tabs of a server of another kind: what its metrics page tells, and what it does not."""

from __future__ import annotations

from textual.app import ComposeResult

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.foreignabsent import ForeignAbsent
from llmtop.widgets.foreignboard import ForeignBoard
from llmtop.widgets.foreignchart import ForeignChart
from llmtop.widgets.gpuboard import GpuBoard
from llmtop.widgets.happenings import Happenings


class ForeignPage(Page):
    DEFAULT_CSS = """
    ForeignPage > ForeignBoard { height: 14; }
    ForeignPage > ForeignChart { height: 1fr; }
    ForeignPage > Happenings { height: 4; }
    """

    def compose(self) -> ComposeResult:
        yield ForeignBoard(id="foreign-board")
        yield ForeignChart(id="foreign-chart", top="├┤")
        yield Happenings(id="foreign-log", top="├┤", bottom="└┘")

    def back(self, view: View) -> bool:
        """To all servers, where this one is of several."""
        is_one_of_several = view.replica is not None
        view.model.target = 0
        return is_one_of_several


class ForeignAbsentPage(Page):
    DEFAULT_CSS = "ForeignAbsentPage > ForeignAbsent { height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield ForeignAbsent(id="foreign-absent", bottom="└┘")


class ForeignGpuPage(Page):
    DEFAULT_CSS = "ForeignGpuPage > GpuBoard { height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield GpuBoard(id="foreign-gpus", bottom="└┘")
