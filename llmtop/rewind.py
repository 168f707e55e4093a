"""The player of a live source: back into its ring, and to the present again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmtop.bookmarking import Bookmarking
from llmtop.places import Stretch
from llmtop.playhead import Playhead
from llmtop.viewmodel import Playback
from profiler.session.markers import Marker
from profiler.session.ring import Ring
from profiler.state import SessionState


class Rewind:
    """Shows the live state, until the viewer pauses or goes back in time; the ring goes on
    collecting all the while. Whoever moves beyond the newest event is live again.

    `file` tells in which session file the source is recorded here, None if in none.
    """

    def __init__(self, ring: Ring, file: Callable[[], Path | None]) -> None:
        self._ring = ring
        self._file = file
        self._live = SessionState()
        self._head: Playhead | None = None
        self._epoch = 0
        self._moved = False
        self._bookmarks = Bookmarking()

    def show(self, live: SessionState) -> SessionState:
        """What is to be seen while the source stands at `live`."""
        self._live = live
        self._bookmarks.save(self._file())
        return live if self._head is None else self._head.state

    @property
    def behind_ns(self) -> int | None:
        """How far the picture is behind the live state; None while that is the picture."""
        return None if self._head is None else self._live.t_ns - self._head.state.t_ns

    @property
    def playback(self) -> Playback | None:
        """None while live."""
        head = self._head
        if head is None:
            return None
        return Playback(
            start_ns=min(self._ring.start_ns, head.t_ns),
            end_ns=self._live.t_ns,
            t_ns=head.t_ns,
            rewound=self._moved,
            markers=tuple(self._markers()),
        )

    def _markers(self) -> list[Marker]:
        start_ns = self._ring.start_ns
        made = [marker for marker in self._bookmarks.made if marker.t_ns >= start_ns]
        return sorted([*self._ring.markers(), *made])

    def toggle(self) -> None:
        """Hold the picture still, or let it go on with what is live."""
        if self._head is None:
            self._hold()
        else:
            self._release()

    def _hold(self) -> Playhead:
        """At the picture that is shown; at the live one where the ring began anew since."""
        if self._head is None or self._epoch != self._ring.epoch:
            self._head = Playhead(self._ring, SessionState.restore(self._live.keyframe()))
            self._epoch, self._moved = self._ring.epoch, False
            self._ring.pinned = True
        return self._head

    def _release(self) -> None:
        self._head, self._moved = None, False
        self._ring.pinned = False

    def seek(self, t_ns: int) -> None:
        if t_ns >= self._live.t_ns:
            self._release()
        else:
            self._hold().seek(t_ns)
            self._moved = True

    def nudge(self, by_ns: int) -> None:
        self.seek((self._live.t_ns if self._head is None else self._head.t_ns) + by_ns)

    def step(self, by: int) -> None:
        self._hold().step(by)
        self._moved = True

    def mark(self, by: int) -> None:
        self._hold().mark(self._markers(), by)
        self._moved = True

    def go_to(self, text: str) -> str:
        session, start_ns = self._live.session, self._ring.start_ns
        origin_ns = start_ns if session is None else session.t_ns
        was_live = self._head is None
        error = self._hold().go_to(text, Stretch(origin_ns, start_ns, self._live.t_ns))
        if not error:
            self._moved = True
        elif was_live:
            self._release()
        return error

    def bookmark(self) -> str:
        return self._bookmarks.add(self.show(self._live), self._file())
