"""Where a picture comes from: a server of ours, a server elsewhere or a session file."""

from __future__ import annotations

from typing import Literal, Protocol

from llmtop.viewmodel import Connection, Playback
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
    def player(self) -> Player | None:
        """The controls of a replay, None for a live source."""
        ...

    def start(self) -> None: ...

    def poll(self, now_ns: int) -> SessionState:
        """The state at `now_ns` of this process's monotonic clock."""
        ...

    def stop(self) -> None:
        """Give back threads, files and processes. May take as long as a server's drain."""
        ...


class Player(Protocol):
    """Moves through recorded time. What has been asked for shows at the next `poll`."""

    @property
    def playback(self) -> Playback: ...

    def toggle(self) -> None:
        """Play or pause; at the end, play again from the start."""
        ...

    def seek(self, t_ns: int) -> None: ...

    def step(self, by: int) -> None:
        """`by` engine steps on or back, and pause."""
        ...

    def mark(self, by: int) -> None:
        """To the next or previous marker."""
        ...

    def repeat(self) -> None:
        """Begin anew at the end, or no longer."""
        ...

    def faster(self, by: int) -> None:
        """Double or halve the speed, from 0.25 to 16."""
        ...

    def go_to(self, text: str) -> str:
        """ "" or why `text` is no place: `1:30`, `90s`, `50%`, `step 1200`."""
        ...
