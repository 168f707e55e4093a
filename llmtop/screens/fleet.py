"""Several servers on one screen."""

from __future__ import annotations

from textual.app import ComposeResult

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.fleettable import FleetTable
from llmtop.widgets.fleettotals import FleetTotals
from llmtop.widgets.happenings import Happenings


class FleetPage(Page):
    DEFAULT_CSS = """
    FleetPage > FleetTotals { height: 8; }
    FleetPage > FleetTable { height: 1fr; }
    FleetPage > Happenings { height: 6; }
    """

    def compose(self) -> ComposeResult:
        yield FleetTotals(id="fleet-totals")
        yield FleetTable(id="fleet-table", top="├┤")
        yield Happenings(id="fleet-log", top="├┤", bottom="└┘")

    def move(self, view: View, by: int) -> None:
        view.model.move_replica(view.state, by)

    def open(self, view: View) -> None:
        view.model.open_target(view.state, view.model.replica)
