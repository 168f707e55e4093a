"""The bookmarks that a viewer makes, and where they are kept."""

from __future__ import annotations

from pathlib import Path

from profiler.errors import SessionFileError
from profiler.session import bookmarks
from profiler.session.markers import Marker
from profiler.state import SessionState


class Bookmarking:
    """`made` are those of this run, in order of time. Without a session file they wait for one."""

    def __init__(self) -> None:
        self.made: list[Marker] = []
        self._unsaved: list[tuple[int, str]] = []

    def add(self, state: SessionState, path: Path | None) -> str:
        """What to say of a bookmark at `state`, whose session file is `path`."""
        step = state.steps.last
        text = "before the first step" if step is None else f"step {step.step}"
        self.made = sorted([*self.made, bookmarks.bookmark(state.t_ns, text)])
        self._unsaved.append((state.t_ns, text))
        if path is None:
            return f"bookmark at {text}; recording keeps it in a file"
        return self.save(path) or f"bookmark at {text}"

    def save(self, path: Path | None) -> str:
        """Write what waits into `path` as soon as that is there; "" or what went wrong."""
        if path is None or not self._unsaved or not path.exists():
            return ""
        waiting, self._unsaved = self._unsaved, []
        try:
            for t_ns, text in waiting:
                bookmarks.add(path, t_ns, text)
        except SessionFileError as error:
            return f"{error.message}; {error.hint}"
        return ""
