"""Where a picture comes from: a server of ours, a server elsewhere or a session file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from llmtop.viewmodel import Connection, Playback
from profiler.session.ring import Ring
from profiler.state import SessionState

Mode = Literal["LIVE", "REPLAY"]


class Source(Protocol):
    """Feeds one `SessionState`. Whatever arrives in the background waits until `poll` folds it,
    so that the caller of `poll` is the only one who ever touches the state.
    """

    @property
    def mode(self) -> Mode: ...

    @property
    def address(self) -> str:
        """What is watched, for people: a URL or a file name."""
        ...

    @property
    def connection(self) -> Connection:
        """ "failed" is final: nothing more will come, and `detail` says why."""
        ...

    @property
    def bytes_recorded(self) -> int | None:
        """Size of the recording, None where there is none to see."""
        ...

    @property
    def farewell(self) -> str:
        """What `stop` may wait for, "" if it is quick."""
        ...

    @property
    def replay(self) -> Replay | None:
        """The controls of a recording, None for a live source."""
        ...

    @property
    def ring(self) -> Ring | None:
        """The newest minutes of a live source, None for a recording."""
        ...

    @property
    def session_file(self) -> Path | None:
        """The file on this machine that holds the session, None where there is none of ours."""
        ...

    def start(self) -> None: ...

    def poll(self, now_ns: int) -> SessionState:
        """The state at `now_ns` of this process's monotonic clock."""
        ...

    def keep(self) -> str:
        """Have what the ring holds in a session file and go on recording; what to say of it."""
        ...

    def stop(self) -> None:
        """Give back threads, files and processes. May take as long as a server's drain."""
        ...


class Player(Protocol):
    """Moves the time cursor. What has been asked for shows at the next frame."""

    @property
    def playback(self) -> Playback | None:
        """Where the cursor stands; None while it follows what is live."""
        ...

    def toggle(self) -> None:
        """Pause, or go on: a recording from where it stands (at its end from the start), a live
        source with what is live."""
        ...

    def seek(self, t_ns: int) -> None: ...

    def nudge(self, by_ns: int) -> None:
        """So far on or back."""
        ...

    def step(self, by: int) -> None:
        """`by` engine steps on or back, and pause."""
        ...

    def mark(self, by: int) -> None:
        """To the next or previous marker."""
        ...

    def go_to(self, text: str) -> str:
        """ "" or why `text` is no place: `1:30`, `90s`, `50%`, `-30s`, `step 1200`."""
        ...

    def bookmark(self) -> str:
        """Mark this place; what to say of it."""
        ...


class Replay(Player, Protocol):
    """What only a recording can do: it plays, at a speed."""

    @property
    def playback(self) -> Playback: ...

    def repeat(self) -> None:
        """Begin anew at the end, or no longer."""
        ...

    def faster(self, by: int) -> None:
        """Double or halve the speed, from 0.25 to 16."""
        ...
