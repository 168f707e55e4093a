"""A screen on which a question can be asked: its footer gives way to the command line."""

from __future__ import annotations

from textual import on
from textual.screen import Screen

from llmtop.widgets.commandline import Attempt, CommandLine


class AskingScreen(Screen[None]):
    def repaint(self) -> None:
        """Paint the last picture again, since what the viewer chose has changed."""

    def _ask(self, label: str, text: str, hint: str, attempt: Attempt, live: bool) -> None:
        self.add_class("asking")
        self.query_one(CommandLine).ask(label, text, hint, attempt, live)

    @on(CommandLine.Closed)
    def _answered(self) -> None:
        self.remove_class("asking")
        self.set_focus(None)
        self.call_after_refresh(self.repaint)
