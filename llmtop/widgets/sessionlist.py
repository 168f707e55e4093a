"""The recordings of this machine, one of them selected as what to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from textual import events
from textual.message import Message

from llmtop.compare.onscreen import OnScreen
from llmtop.compare.pairing import Pairing
from llmtop.format import NONE, clock, grouped, moment, size
from llmtop.privacy import Privacy
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, fit
from llmtop.widgets.wrapping import wrapped
from profiler.session.listing import SessionInfo

_HEAD: Final = f"  {'began':<19}  {'lasted':>8}  {'requests':>8}  {'size':>8}  "
# With less room than this a name would be cut to nothing; it repeats time and model.
_NAMES_FROM: Final = 100
_MODEL: Final = 26
_LEAST_MODEL: Final = 10
_ON_SCREEN: Final = " ● on screen"
_SHORT_ENDS: Final = {_ON_SCREEN: " ●"}


class SessionList(Panel):
    about = (
        "The recordings of this machine, newest first, to hold the session on the screen against."
    )
    own_keys = (
        "down",
        "up",
        "open: compare it, as A, with what is on the screen",
        "anyway",
        "back: away with what is said of a recording",
    )
    wheel = ("move", 1)

    class Picked(Message):
        """A row was clicked; `again` if it was the selected one already."""

        def __init__(self, again: bool) -> None:
            super().__init__()
            self.again = again

    def __init__(self, pairing: Pairing, on_screen: OnScreen, *, id: str) -> None:
        super().__init__(id=id, bottom="└┘")
        self._pairing = pairing
        self._on_screen = on_screen
        self._first = 0
        self._above = 0

    def title(self, view: View) -> Row:
        return (("Compare with a recording", "title"),)

    def note(self, view: View) -> str:
        found = self._pairing.sessions
        return "" if found is None else f"{len(found)}, {view.model.keymap.shown('open')} compares"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        file = self._on_screen.file
        named = width >= len(_HEAD) + _LEAST_MODEL
        head: Row = ((_HEAD + ("model" if named else ""), "dim"),)
        above = [*self._subject(view, width, file), *self._said(view, width, file), head]
        self._above = len(above)
        found = self._pairing.sessions
        if not found:
            return [*above[:-1], ((_nothing(found), "dim"),)]
        visible, at = max(1, height - len(above)), self._pairing.cursor
        self._first = max(0, at - visible + 1, min(self._first, at, len(found) - visible))
        lines = [
            _line(info, _end(info, file), info is found[at], view.model.privacy, width)
            for info in found[self._first : self._first + visible]
        ]
        return [*above, *lines]

    def _subject(self, view: View, width: int, file: Path | None) -> list[Row]:
        name = "" if file is None else f", {clean_line(view.model.privacy.address(file.name))}"
        lines = wrapped(f"B is {self._on_screen.words}{name}", width)
        return [((line, "value"),) for line in lines]

    def _said(self, view: View, width: int, file: Path | None) -> list[Row]:
        """What goes on, or why there is no comparison."""
        pairing, mask = self._pairing, view.model.privacy
        if pairing.working:
            return [((pairing.working, "key"),)]
        paths = [path for path in (pairing.path, file) if path is not None]
        told = clean_line(mask.about(pairing.told, paths))
        hint = clean_line(mask.about(pairing.hint, paths))
        if pairing.refused:
            hint = f"record both under the same load, or press {_anyway(view)}"
        lines: list[Row] = [((line, "warn"),) for line in wrapped(told, width) if line]
        return [*lines, *(((line, "dim"),) for line in wrapped(hint, width) if line)]

    def on_click(self, event: events.Click) -> None:
        at = event.y - self.body_offset()[1] - self._above + self._first
        if at >= self._first and at < len(self._pairing.sessions or []):
            again = at == self._pairing.cursor
            self._pairing.cursor = at
            self.post_message(self.Picked(again))


def _line(info: SessionInfo, end: str, chosen: bool, mask: Privacy, width: int) -> Row:
    role = "select" if chosen else "text" if not info.problem else "dim"
    lead = "▶ " if chosen else "  "
    if info.problem:
        problem = clean_line(mask.about(f"{info.path.name}: {_short(info)}", [info.path]))
        return ((fit(lead + problem, width), role),)
    room = width - len(_HEAD)
    end = end if len(end) <= room else _SHORT_ENDS.get(end, "")
    room -= len(end)
    text = fit(_facts(info, mask, width >= _NAMES_FROM), room) if room >= _LEAST_MODEL else ""
    text = text.ljust(room)
    return ((lead + _numbers(info) + text, role), (end, role if chosen else "dim"))


def _end(info: SessionInfo, shown: Path | None) -> str:
    """What else there is to say of a recording, beside the one that the screen shows."""
    if shown is not None and info.path.absolute() == shown.absolute():
        return _ON_SCREEN
    return "" if info.clean_end else " not closed"


def _numbers(info: SessionInfo) -> str:
    counts = f"{clock(info.duration_ns):>8}  {grouped(info.num_requests):>8}"
    return f"{moment(info.wall_ns):<19}  {counts}  {size(info.num_bytes):>8}  "


def _facts(info: SessionInfo, mask: Privacy, with_name: bool) -> str:
    model = clean_line(mask.model(info.model)) or NONE
    name = clean_line(mask.address(info.path.stem))
    return f"{fit(model, _MODEL)}  {name}" if with_name else model


def _short(info: SessionInfo) -> str:
    """The problem without the name, which stands before it."""
    return info.problem.removeprefix(f"{info.path.name} ")


def _anyway(view: View) -> str:
    return f"{view.model.keymap.shown('anyway')}: compare all the same"


def _nothing(found: list[SessionInfo] | None) -> str:
    if found is None:
        return "looking for recordings"
    return "no recording on this machine; llmtop serve makes one"
