"""What every terminal program of ours shares: its driver, its colours, the way out."""

from __future__ import annotations

import os
from typing import Any, ClassVar, TypeVar, cast

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType

from llmtop.driver import TerminalGone, driver_class
from llmtop.ending import TERMINATED, Ending
from llmtop.keys import Keymap
from llmtop.widgets.painted import Painted
from llmtop.widgets.palette import THEME_NAMES, THEMES

Result = TypeVar("Result")


class ThemedApp(App[Result]):
    """Ends with an exit code, or with what a subclass has."""

    TITLE = "llmtop"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "leave(130)", "interrupt", show=False, priority=True)
    ]

    def __init__(self, keymap: Keymap) -> None:
        # NO_COLOR asks for no colour at all; Textual would else turn colours into greys.
        plain = True if os.environ.get("NO_COLOR") else None
        super().__init__(driver_class=driver_class(), ansi_color=plain)
        self._ending = Ending(self._terminate)
        self.keymap = keymap
        self.set_keymap({name: keys for name, (keys, _) in keymap.changed.items()})
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEME_NAMES[-1] if plain else THEME_NAMES[0]

    def on_mount(self) -> None:
        if not self.is_headless:
            self._ending.listen()

    def run(self, *arguments: Any, **options: Any) -> Result | None:
        """Textual's; until it returns, SIGTERM and SIGHUP end the program as a key does."""
        try:
            return super().run(*arguments, **options)
        finally:
            self._ending.close()

    @on(TerminalGone)
    def _terminate(self) -> None:
        self.action_leave(TERMINATED)

    def notify(self, message: str, **options: Any) -> None:
        """Textual's, of plain text: a path may hold what it would take for markup."""
        super().notify(message, **{**options, "markup": False})

    def action_leave(self, code: int) -> None:
        self.exit(cast(Result, code))

    async def action_quit(self) -> None:
        self.action_leave(0)

    def action_next_theme(self) -> None:
        at = THEME_NAMES.index(self.theme) if self.theme in THEME_NAMES else -1
        self.theme = THEME_NAMES[(at + 1) % len(THEME_NAMES)]
        self.call_after_refresh(self._recolour)

    def _recolour(self) -> None:
        for screen in self.screen_stack:
            for painted in screen.query(Painted):
                painted.repaint()
