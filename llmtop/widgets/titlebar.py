"""The first line: what this is a picture of, how old it is, and what looking at it costs."""

from __future__ import annotations

from datetime import datetime

from llmtop.format import NONE, clock, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import Row, Span, spread


class TitleBar(Painted):
    DEFAULT_CSS = "TitleBar { height: 1; }"

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        left: list[Span] = [(" llmtop ", "barvalue"), *mode_badge(view), (" ", "bar")]
        left += [(what_runs(view, wide=width >= 110), "bar")]
        tail = _cost(view) if width >= 110 else ()
        right: list[Span] = [*_uptime(view), *_recording(view, wide=width >= 110), *tail]
        right.append((f" {wall_clock(view)} ", "bar"))
        row = spread(tuple(left), tuple(right), width)
        return [tuple((text, "bar" if role == "text" else role) for text, role in row)]


def mode_badge(view: View) -> Row:
    """LIVE, PAUSED or REPLAY, or what is wrong with the connection."""
    if view.behind_ns is not None:
        return ((f" ⏸ PAUSED {clock(view.behind_ns)[3:]} behind ", "paused"),)
    if view.mode == "REPLAY":
        return ((" ▶ REPLAY " if view.playback and view.playback.playing else " ⏸ REPLAY ", "replay"),)
    status = view.connection.status
    if status == "connected":
        return (("● LIVE", "live"),)
    role = "paused" if status in ("starting", "reconnecting") else "bad"
    return ((f" {status.upper()} ", role),)


def what_runs(view: View, wide: bool) -> str:
    """The model and where it is served."""
    session = view.state.session
    if session is None:
        return view.address or "no session yet"
    model = clean_line(session.model)
    if not wide:
        return f"{model} {_port(view.address)}".strip()
    facts = f"{model} on {clean_line(session.device)}, pages of {session.block_size}"
    return f"{facts}, {view.address}" if view.address else facts


def _port(address: str) -> str:
    return ":" + address.rsplit(":", 1)[-1].strip("/") if address.count(":") > 1 else address


def _uptime(view: View) -> Row:
    session = view.state.session
    up_ns = None if session is None else view.state.t_ns - session.t_ns
    return ((" up ", "bardim"), (clock(up_ns), "bar"))


def _recording(view: View, wide: bool) -> Row:
    drops = view.state.drops
    lost: Row = ((f" drop {drops}", "bad" if drops else "bardim"),)
    if view.bytes_recorded is None:
        return lost
    word = " ⏺ rec " if wide else " ⏺ "
    return ((word, "bardim"), (size(view.bytes_recorded), "bar"), *lost)


def _cost(view: View) -> Row:
    cpu = NONE if view.cost.cpu_pct is None else f"{view.cost.cpu_pct:.0f}%"
    rate = NONE if view.cost.kib_per_s is None else f"{view.cost.kib_per_s:.0f}"
    return (("  ui ", "bardim"), (f"{cpu} {rate} KiB/s ", "bar"))


def wall_clock(view: View) -> str:
    """Local time of the picture."""
    if view.wall_ns is None:
        return "--:--:--"
    return datetime.fromtimestamp(view.wall_ns / 1e9).strftime("%H:%M:%S")
