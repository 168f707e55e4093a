"""What a live source that is read from elsewhere keeps of it on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llmtop.sources.base import Replay
from llmtop.sources.keeper import Keeper
from profiler.session.ring import Ring


class KeptSource:
    """The newest minutes stay in `ring`; from `keep` on, all of it goes into a file of ours."""

    mode: Literal["LIVE"] = "LIVE"

    def __init__(self) -> None:
        self.ring = Ring()
        self._keeper = Keeper(self.ring)

    @property
    def bytes_recorded(self) -> int | None:
        return self._keeper.num_bytes

    @property
    def session_file(self) -> Path | None:
        return self._keeper.path

    @property
    def farewell(self) -> str:
        return ""

    @property
    def replay(self) -> Replay | None:
        return None

    def keep(self) -> str:
        return self._keeper.keep()
