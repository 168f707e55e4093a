"""The time bar: where the cursor stands, how fast it goes, what happened when."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.message import Message

from llmtop.format import clock
from llmtop.viewmodel import Playback, View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, Span, merged, spread
from profiler.session.markers import Marker

_MARGIN: Final = 2


class ReplayBar(Painted):
    """Of a recording, or of the ring of a live source while the viewer is back in it."""

    DEFAULT_CSS = "ReplayBar { height: 2; }"

    class Sought(Message):
        """The bar was pressed, or the mouse drawn, at `share` (0 to 1) of its length."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def can_replace(self, message: Message) -> bool:
            """A drag goes where the mouse is now, not everywhere it was."""
            return isinstance(message, ReplayBar.Sought)

    class Turned(Message):
        """The wheel was turned: so many notches on, or back."""

        def __init__(self, notches: int) -> None:
            super().__init__()
            self.notches = notches

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        playback = view.playback
        if playback is None:
            return []
        room = max(1, width - 2 * _MARGIN)
        facts = _position(playback) if view.mode == "REPLAY" else _way_back(playback)
        return [spread(facts, _aside(playback, room), width), _bar(playback, room)]

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.y == 1:
            self.capture_mouse()
            self._seek(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self.app.mouse_captured is self:
            self._seek(event.x)

    def on_mouse_scroll_down(self) -> None:
        self.post_message(self.Turned(1))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.Turned(-1))

    def on_mouse_up(self) -> None:
        self.release_mouse()

    def _seek(self, x: int) -> None:
        room = max(1, self.size.width - 2 * _MARGIN)
        self.post_message(self.Sought(max(0.0, min(1.0, (x - _MARGIN) / room))))


def _position(playback: Playback) -> Row:
    at_ns = playback.t_ns - playback.start_ns
    return (
        (" ▶ " if playback.playing else " ⏸ ", "value"),
        (f"{clock(at_ns)}.{at_ns // 1_000_000 % 1000:03d}", "value"),
        (f" of {clock(playback.end_ns - playback.start_ns)}  ", "dim"),
        (f"{playback.speed:g}x", "key"),
        (" loop" if playback.looping else "", "key"),
    )


def _way_back(playback: Playback) -> Row:
    behind_ns = playback.end_ns - playback.t_ns
    return (
        (" ⏸ ", "value"),
        (f"-{clock(behind_ns)}.{behind_ns // 1_000_000 % 1000:03d}", "value"),
        (f" in the last {clock(playback.end_ns - playback.start_ns)}  ", "dim"),
        ("space", "key"),
        (" live again", "dim"),
    )


def _aside(playback: Playback, room: int) -> Row:
    """The newest marker under the cursor, else what the signs mean."""
    now = _column(playback, playback.t_ns, room)
    here = [m for m in playback.markers if _column(playback, m.t_ns, room) == now]
    passed = [marker for marker in here if marker.t_ns <= playback.t_ns]
    if passed:
        return ((f"{passed[-1].glyph} ", "warn"), (f"{passed[-1].text} ", "text"))
    kinds = sorted({(marker.glyph, _kind(marker)) for marker in playback.markers})
    return tuple((f"{glyph} {word}  ", "dim") for glyph, word in kinds)


def _bar(playback: Playback, room: int) -> Row:
    now = _column(playback, playback.t_ns, room)
    cells: list[Span] = [("━", "chart2") if x < now else ("─", "frame") for x in range(room)]
    for t_ns, glyph, _ in playback.markers:
        cells[_column(playback, t_ns, room)] = (glyph, "warn")
    cells[now] = ("●", "value")
    return merged([(" ├", "frame"), *cells, ("┤", "frame")])


def _column(playback: Playback, t_ns: int, room: int) -> int:
    length_ns = max(1, playback.end_ns - playback.start_ns)
    return max(0, min(room - 1, (t_ns - playback.start_ns) * room // length_ns))


def _kind(marker: Marker) -> str:
    return marker.text.split(" ", 1)[0].rstrip(":")
