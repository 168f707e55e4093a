"""The Overview tab: the whole service at a glance."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.brief import Brief
from llmtop.widgets.charts import Chart
from llmtop.widgets.devices import Devices
from llmtop.widgets.happenings import Happenings, open_finding, worst_open
from llmtop.widgets.kvusage import KvUsage
from llmtop.widgets.memoryuse import MemoryUse
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel
from llmtop.widgets.processes import Processes
from llmtop.widgets.requesttable import RequestTable
from llmtop.widgets.service import Service

WIDE_FROM: Final = 112
LOW_FROM: Final = 27
TALL_FROM: Final = 35
_RIGHT_WIDTH: Final = 48
_SERVICE_HEIGHT: Final = 8
_CHART_HEIGHT: Final = 6
_LOG_HEIGHT: Final = 5
_RIGHT_HEIGHTS: Final = {"memory": 4, "kv-usage": 6, "devices": 5, "processes": 5}
_LOW_RIGHT_HEIGHTS: Final = {"memory": 4, "kv-usage": 6, "devices": 4}


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
        wide = width >= WIDE_FROM and height >= LOW_FROM
        for panel in self.query(Panel):
            panel.compact = not wide
        self._show("brief", not wide)
        self._show("service", wide)
        self._show("overview-right", wide)
        if wide:
            self._lay_out_wide(width, height)
        else:
            self._lay_out_narrow(height)

    def _lay_out_wide(self, width: int, height: int) -> None:
        """A low screen does without the second chart, the processes and the log."""
        tall = height >= TALL_FROM
        extra = max(0, min(8, (height - 37) // 2))
        right = dict(_RIGHT_HEIGHTS if tall else _LOW_RIGHT_HEIGHTS)
        right["kv-usage"] += min(2, extra)
        self._give("overview-top", sum(right.values()) + max(0, extra - 2))
        self._give("service", _SERVICE_HEIGHT)
        self._give("chart-first", "1fr")
        self._give("chart-second", "1fr" if tall else 0)
        for name in _RIGHT_HEIGHTS:
            self._give(name, right.get(name, 0))
        if tall:
            self._give("processes", "1fr")
        self._give("overview-log", _LOG_HEIGHT if tall else 0)
        columns = min(72, _RIGHT_WIDTH if width < 140 else width // 3)
        self._sub("overview-right").styles.width = columns
        table = self._sub("overview-requests")
        assert isinstance(table, Panel)
        table.joints = (width - columns - 1, width - columns)
        table.bottom = "" if tall else "└┘"

    def _lay_out_narrow(self, height: int) -> None:
        charts = [_CHART_HEIGHT - 1 if height >= 20 else 0, _CHART_HEIGHT if height >= 34 else 0]
        self._give("overview-top", sum(charts))
        self._give("chart-first", charts[0])
        self._give("chart-second", charts[1])
        self._give("overview-log", 0 if height < 18 else 2 if height < 34 else 4)

    def _give(self, name: str, height: int | str) -> None:
        """0 hides it."""
        widget = self._sub(name)
        widget.display = height != 0
        widget.styles.height = height

    def _show(self, name: str, shown: bool) -> None:
        self._sub(name).display = shown

    def _sub(self, name: str) -> Painted | Container:
        found = self.query_one(f"#{name}")
        assert isinstance(found, Painted | Container)
        return found

    def move(self, view: View, by: int) -> None:
        view.model.move(view.state, by)

    def open(self, view: View) -> None:
        """The selected request or, where the findings have the focus, the one they are about."""
        if self._sub("overview-log").has_focus:
            worst = worst_open(view)
            if worst is not None:
                open_finding(view, worst)
            return
        if view.request is None:
            view.model.move(view.state, 1)
        view.model.open_request()

    @on(Happenings.Picked)
    def _picked(self, event: Happenings.Picked) -> None:
        view = self.query_one(Happenings).painted_view
        if view is not None:
            open_finding(view, event.finding)
            self.post_message(self.Chosen())
