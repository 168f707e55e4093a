"""The time bar of a replay: where it stands, how fast it goes, what happened when."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.message import Message

from llmtop.format import clock
from llmtop.viewmodel import Playback, View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, Span, merged, spread

_MARGIN: Final = 2


class ReplayBar(Painted):
    DEFAULT_CSS = "ReplayBar { height: 2; }"

    class Sought(Message):
        """The bar was clicked at `share` (0 to 1) of its length."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        playback = view.playback
        if playback is None:
            return []
        return [self._facts(playback, width), self._bar(playback, width)]

    @staticmethod
    def _facts(playback: Playback, width: int) -> Row:
        at_ns = playback.t_ns - playback.start_ns
        left: list[Span] = [
            (" ▶ " if playback.playing else " ⏸ ", "value"),
            (f"{clock(at_ns)}.{at_ns // 1_000_000 % 1000:03d}", "value"),
            (f" of {clock(playback.end_ns - playback.start_ns)}  ", "dim"),
            (f"{playback.speed:g}x", "key"),
        ]
        kinds = sorted({(glyph, _kind(text)) for _, glyph, text in playback.markers})
        legend = tuple((f"{glyph} {word}  ", "dim") for glyph, word in kinds)
        return spread(tuple(left), legend, width)

    @staticmethod
    def _bar(playback: Playback, width: int) -> Row:
        room = max(1, width - 2 * _MARGIN)
        length_ns = max(1, playback.end_ns - playback.start_ns)

        def column(t_ns: int) -> int:
            return max(0, min(room - 1, (t_ns - playback.start_ns) * room // length_ns))

        now = column(playback.t_ns)
        cells: list[Span] = [("━", "chart2") if x < now else ("─", "frame") for x in range(room)]
        for t_ns, glyph, _ in playback.markers:
            cells[column(t_ns)] = (glyph, "warn")
        cells[now] = ("●", "value")
        return merged([(" ├", "frame"), *cells, ("┤", "frame")])

    def on_click(self, event: events.Click) -> None:
        if event.y == 1:
            room = max(1, self.size.width - 2 * _MARGIN)
            self.post_message(self.Sought(max(0.0, min(1.0, (event.x - _MARGIN) / room))))


def _kind(text: str) -> str:
    return text.split(" ", 1)[0].rstrip(":")
