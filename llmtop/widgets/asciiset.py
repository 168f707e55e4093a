"""The same picture in ASCII alone, a character for each cell, for terminals that have no more."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from llmtop.widgets.rows import Row

# What stands for something keeps a look of its own: causes, and states of pages and requests.
_ALIKE: Final = {
    "·": ".", "•": "*", "…": "~", "°": " ", "µ": "u", "±": "+", "≤": "<", "≥": ">",
    "←": "<", "→": ">", "↑": "^", "↓": "v", "▶": ">", "▸": ">", "◀": "<", "▲": "^",
    "─": "-", "━": "=", "│": "|", "╎": ":", "╵": "'", "\u2571": "/",
    "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┴": "+", "┼": "+",
    "╭": "+", "╮": "+", "╯": "+", "╰": "+",
    "▁": "_", "▂": "_", "▃": "_", "▄": "-", "▅": "=", "▆": "=", "▇": "#", "█": "#",
    "▉": "#", "▊": "#", "▋": "+", "▌": "+", "▍": "-", "▎": "-", "▏": "|", "▕": "|",
    "░": ":", "▒": "=", "▓": "%", "▚": "&", "▞": "/", "▟": "&", "◆": "@", "◇": "$",
    "■": "#", "▪": "o", "◌": "o", "●": "*", "⏸": "=", "⏺": "*", "⚑": "!",
    "✓": "v", "✕": "x", "✖": "X", "▔": "-", "🔎": "/",
}  # fmt: skip
_BRAILLE: Final = range(0x2800, 0x2900)
_DOTS: Final = " ..::**##"


class _Set(dict[int, str]):
    """For `str.translate`; what it has not met it works out once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code in _BRAILLE:
            found = _DOTS[(code - 0x2800).bit_count()]
        elif code < 0x7F:
            found = character
        else:
            found = _ALIKE.get(character, "?") * cell_len(character)
        self[code] = found
        return found


_SET: Final = _Set()


def ascii_text(text: str) -> str:
    """As many cells as `text` has."""
    return text if text.isascii() else text.translate(_SET)


def ascii_row(row: Row) -> Row:
    return tuple((ascii_text(text), role) for text, role in row)


class AsciiFilter(LineFilter):
    """For what Textual draws itself: borders, inputs, messages."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_text(text), style, control) for text, style, control in segments]
