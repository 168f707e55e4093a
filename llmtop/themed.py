"""What every terminal program of ours shares: its driver, its colours, the way out."""

from __future__ import annotations

import os
from typing import TypeVar

from textual.app import App

from llmtop.cost import counting_driver
from llmtop.keys import Keymap
from llmtop.widgets.painted import Painted
from llmtop.widgets.palette import THEME_NAMES, THEMES

Result = TypeVar("Result")


class ThemedApp(App[Result]):
    TITLE = "llmtop"

    def __init__(self, keymap: Keymap) -> None:
        # NO_COLOR asks for no colour at all; Textual would else turn colours into greys.
        plain = True if os.environ.get("NO_COLOR") else None
        super().__init__(driver_class=counting_driver(), ansi_color=plain)
        self.keymap = keymap
        self.set_keymap({name: keys for name, (keys, _) in keymap.changed.items()})
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEME_NAMES[-1] if plain else THEME_NAMES[0]

    def action_next_theme(self) -> None:
        at = THEME_NAMES.index(self.theme) if self.theme in THEME_NAMES else -1
        self.theme = THEME_NAMES[(at + 1) % len(THEME_NAMES)]
        self.call_after_refresh(self._recolour)

    def _recolour(self) -> None:
        for screen in self.screen_stack:
            for painted in screen.query(Painted):
                painted.repaint()
