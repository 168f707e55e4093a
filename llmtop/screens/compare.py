"""The comparison as a program of its own."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen

from llmtop.compare.choice import Choice
from llmtop.keys import COMPARE_KEYS, Keymap
from llmtop.screens.compare_board import CompareBoard
from llmtop.screens.help import HelpScreen
from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.comparehead import CompareBar
from llmtop.widgets.compareworst import CompareWorst
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel
from llmtop.widgets.strips import Footer, PressStrip
from profiler.state import SessionState


class CompareScreen(Screen[None]):
    """A title, the board, and the keys; Enter leaves with the request to open."""

    CSS = "CompareScreen { layout: vertical; }"
    AUTO_FOCUS = ""
    BINDINGS = [  # noqa: RUF012
        Binding(key.keys, key.action, key.label, show=False, id=key.name) for key in COMPARE_KEYS
    ]

    def __init__(self, choice: Choice, keymap: Keymap) -> None:
        super().__init__()
        self._choice = choice
        self._board = CompareBoard(choice)
        self._shown = View(SessionState(), ViewModel(keymap), "COMPARE", Connection("connected"))

    def compose(self) -> ComposeResult:
        yield CompareBar(self._choice, id="compare-bar")
        yield self._board
        yield Footer(id="footer")

    def on_resize(self) -> None:
        width, height = self.app.size
        self._board.lay_out(width, height - 2)
        self.call_after_refresh(self.repaint)

    def repaint(self) -> None:
        """Paint all of it, since what the viewer chose has changed."""
        for painted in self.query(Painted):
            if painted.display:
                painted.paint(self._shown)

    def action_move(self, by: int) -> None:
        self._board.move(by)
        self.repaint()

    def action_other_table(self) -> None:
        self._board.other_table()

    def action_latency(self, by: int) -> None:
        self._choice.next_latency(by)
        self.repaint()

    def action_side(self) -> None:
        self._choice.other_side()
        self.repaint()

    def action_open(self) -> None:
        """Leave with the selected request, for whoever runs the program to open."""
        chosen = self._choice.selected
        if chosen is None:
            self.notify("no request to open")
        else:
            self.app.exit(chosen)

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self._shown.model.keymap, "compare", self.focused))

    @on(PressStrip.Pressed)
    async def _pressed(self, event: PressStrip.Pressed) -> None:
        await self.run_action(event.action)

    @on(Panel.Wheeled)
    def _wheeled(self, event: Panel.Wheeled) -> None:
        getattr(self._board, event.action)(event.by)
        self.repaint()

    @on(CompareWorst.Picked)
    def _picked(self, event: CompareWorst.Picked) -> None:
        self.repaint()
        if event.again:
            self.action_open()
