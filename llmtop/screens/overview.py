"""The Overview tab: the whole service at a glance."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.brief import Brief
from llmtop.widgets.charts import Chart
from llmtop.widgets.devices import Devices
from llmtop.widgets.happenings import Happenings
from llmtop.widgets.kvusage import KvUsage
from llmtop.widgets.memoryuse import MemoryUse
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel
from llmtop.widgets.processes import Processes
from llmtop.widgets.requesttable import RequestTable
from llmtop.widgets.service import Service

WIDE_FROM: Final = 100
TALL_FROM: Final = 27
_RIGHT_WIDTH: Final = 48
_LOG_HEIGHT: Final = 5
_CHART_HEIGHT: Final = 6
_SERVICE_HEIGHT: Final = 8
_RIGHT_HEIGHTS: Final = {"memory": 4, "kv-usage": 6, "devices": 5, "processes": 5}


class OverviewPage(Page):
    """Wide and tall: two columns above the table. Else five lines, one chart, the table."""

    DEFAULT_CSS = """
    OverviewPage #overview-top { layout: horizontal; }
    OverviewPage #overview-left { width: 1fr; }
    OverviewPage #overview-left, OverviewPage #overview-right { layout: vertical; }
    """

    def compose(self) -> ComposeResult:
        yield Brief(id="brief")
        with Container(id="overview-top"):
            with Container(id="overview-left"):
                yield Service(id="service")
                yield Chart(id="chart-first")
                yield Chart(id="chart-second", ahead=1)
            with Container(id="overview-right"):
                yield MemoryUse(id="memory")
                yield KvUsage(id="kv-usage", top="├┤")
                yield Devices(id="devices", top="├┤")
                yield Processes(id="processes", top="├┤")
        yield RequestTable(id="overview-requests")
        yield Happenings(id="overview-log", top="├┤", bottom="└┘")

    def lay_out(self, width: int, height: int) -> None:
        wide = width >= WIDE_FROM and height >= TALL_FROM
        for name, shown in (
            ("brief", not wide),
            ("service", wide),
            ("chart-second", wide),
            ("overview-right", wide),
        ):
            self._sub(name).display = shown
        for panel in self.query(Panel):
            panel.compact = not wide
        if wide:
            self._arrange_wide(width, height)
        else:
            self._arrange_narrow(height)

    def _arrange_wide(self, width: int, height: int) -> None:
        extra = max(0, min(12, (height - 37) // 2))
        right = max(_RIGHT_WIDTH, width * 2 // 5) if width < 160 else width // 3
        self._sub("overview-top").styles.height = sum(_RIGHT_HEIGHTS.values()) + extra
        self._sub("overview-right").styles.width = min(72, right)
        self._sub("service").styles.height = _SERVICE_HEIGHT
        self._sub("chart-first").styles.height = _CHART_HEIGHT + extra - extra // 2
        self._sub("chart-second").styles.height = _CHART_HEIGHT + extra // 2
        for name, lines in _RIGHT_HEIGHTS.items():
            self._sub(name).styles.height = lines + (extra if name == "processes" else 0)
        self._sub("overview-log").styles.height = _LOG_HEIGHT
        table = self._sub("overview-requests")
        assert isinstance(table, RequestTable)
        edge = width - min(72, right)
        table.joints = (edge - 1, edge)

    def _arrange_narrow(self, height: int) -> None:
        chart = 5 if height >= 20 else 0
        self._sub("chart-first").display = chart > 0
        self._sub("overview-top").display = chart > 0
        self._sub("overview-top").styles.height = chart
        self._sub("chart-first").styles.height = chart
        self._sub("overview-log").styles.height = 2
        self._sub("overview-log").display = height >= 18

    def _sub(self, name: str) -> Painted | Container:
        found = self.query_one(f"#{name}")
        assert isinstance(found, Painted | Container)
        return found

    def move(self, view: View, by: int) -> None:
        view.model.move(view.state, by)

    def open(self, view: View) -> None:
        if view.request is None:
            view.model.move(view.state, 1)
        view.model.open_request()
