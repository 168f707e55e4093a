"""The keys that move the time cursor, for the screen that has them."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.message import Message

from llmtop.screens.asking import AskingScreen
from llmtop.screens.page import Page
from llmtop.sources.base import Player, Replay
from llmtop.widgets.replaybar import ReplayBar

_NS_PER_S: Final = 1_000_000_000
_GOTO_HINT: Final = "1:30   90s   50%   -30s   step 1200"


class TimeKeys(AskingScreen):
    """Every move goes to the one player; `Moved` asks for the frame that shows it."""

    class Moved(Message):
        """The time cursor stands elsewhere."""

    _player: Player
    _replay: Replay | None

    def action_pause(self) -> None:
        self._player.toggle()
        self.post_message(self.Moved())

    def action_seek(self, by_s: int) -> None:
        self._player.nudge(by_s * _NS_PER_S)
        self.post_message(self.Moved())

    def action_step(self, by: int) -> None:
        self._player.step(by)
        self.post_message(self.Moved())

    def action_mark(self, by: int) -> None:
        self._player.mark(by)
        self.post_message(self.Moved())

    def action_repeat(self) -> None:
        if self._replay is not None:
            self._replay.repeat()

    def action_speed(self, by: int) -> None:
        if self._replay is not None:
            self._replay.faster(by)

    def action_goto(self) -> None:
        self._ask("go to", "", _GOTO_HINT, self._go_to, live=False)

    def _go_to(self, text: str) -> str:
        error = self._player.go_to(text)
        self.post_message(self.Moved())
        return error

    def action_bookmark(self) -> None:
        self.notify(self._player.bookmark())

    @on(ReplayBar.Sought)
    def _sought(self, event: ReplayBar.Sought) -> None:
        playback = self._player.playback
        if playback is not None:
            length_ns = playback.end_ns - playback.start_ns
            self._player.seek(playback.start_ns + round(event.share * length_ns))
            self.post_message(self.Moved())

    @on(ReplayBar.Turned)
    def _turned(self, event: ReplayBar.Turned) -> None:
        self.action_seek(event.notches)

    @on(Page.TimeChosen)
    def _time_chosen(self, event: Page.TimeChosen) -> None:
        self._player.seek(event.t_ns)
        self.post_message(self.Moved())
