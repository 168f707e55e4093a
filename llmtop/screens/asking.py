"""A screen on which a question can be asked: its footer gives way to the command line."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.screen import Screen

from llmtop.widgets.commandline import Attempt, CommandLine
from llmtop.widgets.strips import Footer

_AWAY: Final = "away"  # of the footer alone: a class of the screen has all its widgets styled anew


class AskingScreen(Screen[None]):
    asking: bool = False
    """Whether a question stands in the footer's place. Kept here, since a frame that comes as the
    program ends finds no footer to ask."""

    def repaint(self) -> None:
        """Paint the last picture again, since what the viewer chose has changed."""

    def _ask(self, label: str, text: str, hint: str, attempt: Attempt, live: bool) -> None:
        self.asking = True
        self.query_one(Footer).add_class(_AWAY)
        self.query_one(CommandLine).ask(label, text, hint, attempt, live)

    @on(CommandLine.Closed)
    def _answered(self) -> None:
        self.asking = False
        self.query_one(Footer).remove_class(_AWAY)
        self.set_focus(None)
        self.call_after_refresh(self.repaint)
