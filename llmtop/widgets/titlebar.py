"""The first line: what this is a picture of, how old it is, and what is kept of it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from llmtop.format import clock, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, cells_of, fit, fit_row, width_of

# A name may be cut to this many cells before what stands at the right gives way.
_LEAST_NAME: Final = 14
_BADGES: Final[dict[str, Row]] = {
    "silent": ((" CORE SILENT ", "bad"),),
    "drain": ((" DRAINING ", "paused"),),
    "stopped": ((" STOPPED ", "paused"),),
}
_WAITING: Final = ("starting", "connecting", "stale", "reconnecting")
_MEASURING: Final[Row] = ((" MEASURING ", "paused"),)  # it stands still now and then


class TitleBar(Painted):
    DEFAULT_CSS = "TitleBar { height: 1; }"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        lead: Row = ((" llmtop ", "barvalue"), *mode_badge(view), (" ", "bar"), *_masked(view))
        room = width - width_of(lead)
        known = names(view)
        right = _right(view, room, cells_of(known[-1]))
        room -= width_of(right)
        name = next((n for n in known if cells_of(n) <= room), fit(known[-1], room))
        return [fit_row((*lead, (name.ljust(room), "bar"), *right), width, "bar")]


def _right(view: View, room: int, name_cells: int) -> Row:
    """As much of the right end as leaves the name whole; else its least, and a name that is cut."""
    rights = _rights(view)
    whole = (r for r in rights if width_of(r) + name_cells <= room)
    last = rights[-1]
    fallback = last if width_of(last) + min(_LEAST_NAME, name_cells) <= room else ()
    return next(whole, fallback)


def _rights(view: View) -> list[Row]:
    """The right end, from all of it down to what must be there."""
    time_of_day: Row = ((f" {wall_clock(view)} ", "barvalue"),)
    age, kept = _uptime(view), _recording(view)
    short = tuple((text.replace(" ⏺ rec ", " ⏺ "), role) for text, role in kept)
    return [
        (*kept, *age, *time_of_day),
        (*short, *age, *time_of_day),
        (*short, *age),
        short,
    ]


def mode_badge(view: View) -> Row:
    """LIVE, PAUSED, REWIND or REPLAY, or what is wrong with the connection."""
    if view.behind_ns is not None:
        if view.playback is not None and view.playback.rewound:
            return ((f" ◀ REWIND -{clock(view.behind_ns)} ", "paused"),)
        return ((f" ⏸ PAUSED {clock(view.behind_ns)[3:]} behind ", "paused"),)
    if view.mode == "REPLAY":
        playing = view.playback is not None and view.playback.playing
        return ((" ▶ REPLAY " if playing else " ⏸ REPLAY ", "replay"),)
    status = view.connection.status
    if status == "connected":
        phase = view.state.phase
        if phase is not None and phase.name in _BADGES:
            return _BADGES[phase.name]
        if view.state.observing.is_under_way:
            return _MEASURING
        return (("◌ STARTING", "key"),) if view.starting else (("● LIVE", "live"),)
    role = "paused" if status in _WAITING else "bad"
    return ((f" {status.upper()} ", role),)


def _masked(view: View) -> Row:
    return ((" PRIVATE ", "paused"), (" ", "bar")) if view.model.privacy.on else ()


def names(view: View) -> list[str]:
    """What is watched, from all that is known of it down to its name."""
    session = view.state.session
    if view.state.fleet.replicas:
        return _servers(view)
    if session is None:
        return [view.address, _port(view.address)]
    model = clean_line(session.model)
    if session.upstream:
        device = f"{model or 'unnamed model'} at {clean_line(session.upstream)}"
    else:
        device = f"{model} on {clean_line(session.device)}"
    address = view.address.removeprefix("http://")
    found = [f"{device}, {address}", f"{model}, {address}", model]
    if view.mode != "REPLAY":
        found.insert(2, f"{model} {_port(address)}")
    return found


def _servers(view: View) -> list[str]:
    names = [clean_line(replica.told.name) for replica in view.state.fleet.replicas.values()]
    count = f"{len(names)} servers"
    return [f"{count}: {', '.join(names)}", count]


def _port(address: str) -> str:
    return ":" + address.rsplit(":", 1)[-1].strip("/") if ":" in address else address


def _uptime(view: View) -> Row:
    session = view.state.session
    if session is None:
        return ()
    return ((" up ", "bardim"), (f"{clock(view.state.t_ns - session.t_ns)} ", "bar"))


def _recording(view: View) -> Row:
    drops = view.state.drops
    lost: Row = ((f" drops {drops} ", "bad" if drops else "bardim"),)
    recording = view.state.recording
    if view.bytes_recorded is None:
        stopped = recording is not None and recording.error
        return ((" ⏺ rec ", "bardim"), ("stopped ", "bad"), *lost) if stopped else lost
    word = " file " if view.mode == "REPLAY" else " ⏺ rec "
    return ((word, "bardim"), (f"{size(view.bytes_recorded)} ", "bar"), *lost)


def wall_clock(view: View) -> str:
    """Local time of the picture."""
    if view.wall_ns is None:
        return "--:--:--"
    return datetime.fromtimestamp(view.wall_ns / 1e9).strftime("%H:%M:%S")
