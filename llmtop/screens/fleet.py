"""Several servers on one screen."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.fleettable import FleetTable
from llmtop.widgets.fleettotals import FleetTotals
from llmtop.widgets.happenings import Happenings

TALL_FROM: Final = 30
# Below, the first line of the totals takes two.
ROOMY_FROM: Final = 92


class FleetPage(Page):
    DEFAULT_CSS = """
    FleetPage > FleetTable { height: 1fr; }
    """

    def compose(self) -> ComposeResult:
        yield FleetTotals(id="fleet-totals")
        yield FleetTable(id="fleet-table", top="├┤")
        yield Happenings(id="fleet-log", top="├┤", bottom="└┘")

    def lay_out(self, width: int, height: int) -> None:
        """A low screen does without the last latency, and has two lines of what happens."""
        tall, roomy = height >= TALL_FROM, width >= ROOMY_FROM
        self.query_one(FleetTotals).styles.height = 8 - roomy - (not tall)
        self.query_one(Happenings).styles.height = 6 if tall else 4

    def move(self, view: View, by: int) -> None:
        view.model.move_replica(view.state, by)

    def open(self, view: View) -> None:
        view.model.open_target(view.state, view.model.replica)
