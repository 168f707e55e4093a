"""The comparison in a terminal, and the way to a request's replay and back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from llmtop.app import LlmtopApp
from llmtop.compare.choice import Choice
from llmtop.ending import TERMINATED
from llmtop.keyfile import load_keymap
from llmtop.keys import Keymap
from llmtop.screens.compare import CompareScreen
from llmtop.sources.replay import ReplaySource
from llmtop.themed import ThemedApp
from profiler.compare.comparison import Comparison
from profiler.compare.regressions import Regression

_INTERRUPTED: Final = 130


class CompareApp(ThemedApp[Regression | int]):
    """Ends with an exit code, or with the pair of requests to open."""

    def __init__(self, choice: Choice, keymap: Keymap | None = None) -> None:
        super().__init__(keymap or Keymap())
        self._choice = choice

    def on_mount(self) -> None:
        self.push_screen(CompareScreen(self._choice, self.keymap))


def run_compare(comparison: Comparison) -> int:
    """The exit code, once the viewer has left. Raises: SessionFileError, LlmtopError."""
    choice = Choice(comparison)
    keymap = load_keymap()
    while True:
        ended = CompareApp(choice, keymap).run()
        if not isinstance(ended, Regression):
            return ended or 0
        app = opened(choice, ended, keymap)
        try:
            code = app.run()
        finally:
            app.source.stop()
        if code in (_INTERRUPTED, TERMINATED):
            return code


def opened(choice: Choice, pair: Regression, keymap: Keymap | None = None) -> LlmtopApp:
    """The replay of the chosen side, held where the request ended, on the request's own page.

    Raises: SessionFileError.
    """
    first = choice.side == "A"
    side = choice.comparison.a if first else choice.comparison.b
    source = ReplaySource(Path(side.path))
    source.toggle()
    source.seek(pair.t_done_a_ns if first else pair.t_done_b_ns)
    app = LlmtopApp(source, keymap=keymap)
    app.model.selected = pair.request_a if first else pair.request_b
    app.model.open_request()
    return app
