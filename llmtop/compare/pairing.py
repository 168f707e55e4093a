"""Which recording is to be held against the session on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llmtop.compare.onscreen import Sides
from profiler.compare.comparison import Comparison
from profiler.session.listing import SessionInfo


@dataclass(slots=True)
class Pairing:
    """`sessions` are this machine's recordings, newest first, None before they were looked for.

    `path` is the one that is chosen, None while none is; it is A, or B if `swapped`. `anyway`
    compares other workloads too. `told` says why there is no comparison, `hint` what to do then;
    `refused` is whether `anyway` would help. `working` says what a thread is busy with.
    """

    sessions: list[SessionInfo] | None = None
    cursor: int = 0
    path: Path | None = None
    sides: Sides | None = None
    comparison: Comparison | None = None
    swapped: bool = False
    anyway: bool = False
    refused: bool = False
    working: str = ""
    told: str = ""
    hint: str = ""

    @property
    def selected(self) -> SessionInfo | None:
        sessions = self.sessions or []
        return sessions[self.cursor] if self.cursor < len(sessions) else None

    def list_anew(self, sessions: list[SessionInfo]) -> None:
        """Take `sessions`; what was selected stays selected."""
        before = self.selected
        paths = [info.path for info in sessions]
        known = before is not None and before.path in paths
        self.cursor = paths.index(before.path) if before is not None and known else 0
        self.sessions = sessions

    def move(self, by: int) -> None:
        self.cursor = max(0, min(len(self.sessions or []) - 1, self.cursor + by))

    def choose(self, path: Path) -> None:
        """Begin anew with `path` as the baseline."""
        self.forget()
        self.path = path

    def forget(self) -> None:
        """No recording is chosen."""
        self.path = self.sides = self.comparison = None
        self.swapped = self.anyway = False
        self.tell("")

    def tell(self, told: str, hint: str = "", refused: bool = False) -> None:
        self.told, self.hint, self.refused = told, hint, refused
        self.working = ""
