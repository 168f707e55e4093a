"""What stands where the screen has no room for anything else."""

from __future__ import annotations

from typing import Final

from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row

MIN_WIDTH: Final = 60
MIN_HEIGHT: Final = 16


class TooSmall(Painted):
    """Says so, instead of drawing what cannot be read."""

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        leave = view.model.keymap.shown("quit")
        text = f"needs {MIN_WIDTH}x{MIN_HEIGHT}, has {width}x{height}; {leave} quits"
        return [((text, "warn"),)]
