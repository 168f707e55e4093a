"""Where llmtop keeps its files. `LLMTOP_HOME` moves all of them together.

These functions only name folders; whoever writes into one makes it.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "LLMTOP_HOME"


def _folder(kind: str) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser() / kind
    import platformdirs

    folder: str = getattr(platformdirs, f"user_{kind}_dir")("llmtop", appauthor=False)
    return Path(folder)


def data_dir() -> Path:
    """What a person made and wants to keep."""
    return _folder("data")


def cache_dir() -> Path:
    """What can be fetched or converted again: models, compiled kernels."""
    return _folder("cache")


def config_dir() -> Path:
    return _folder("config")


def state_dir() -> Path:
    """Logs."""
    return _folder("state")


def sessions_dir() -> Path:
    """The recordings (`*.db`) that `llmtop serve` makes and `llmtop replay` opens."""
    return data_dir() / "sessions"


def pictures_dir() -> Path:
    """The screens that `!` saves."""
    return data_dir() / "pictures"


def exports_dir() -> Path:
    """The rows that `e` saves."""
    return data_dir() / "exports"
