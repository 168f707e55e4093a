"""The session file that a person means."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from llmtop.errors import LlmtopError
from llmtop.paths import sessions_dir
from profiler.session.bookmarks import BESIDE_SUFFIX

LATEST = "latest"
LISTED = "llmtop sessions lists them"
_SILENT_DAYS = 60 / 86400


def new_session(folder: Path, model: str, now: datetime) -> Path:
    """A name for a recording that begins now; `folder` is made, for its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    last = re.sub(r"[^\w.-]+", "-", Path(model).name).strip("-.")[:60]
    stem = f"{now:%Y%m%d-%H%M%S}-{last or 'model'}"
    names = (f"{stem}{suffix}.db" for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(folder / name for name in names if not (folder / name).exists())


def chosen_session(model: str, chosen: Path | None) -> str:
    """The file to record into: the one `chosen`, or a new one. Raises: LlmtopError if it would
    overwrite something."""
    if chosen is None:
        return str(new_session(sessions_dir(), model, datetime.now()))
    if chosen.exists():
        raise LlmtopError(f"{chosen} exists", "--session wants a new file")
    if not chosen.absolute().parent.is_dir():
        raise LlmtopError(f"there is no folder {chosen.absolute().parent}")
    return str(chosen.absolute())


def session_files(folder: Path) -> list[Path]:
    """The recordings in `folder`, oldest first: their names begin with the time."""
    return sorted(path for path in folder.glob("*.db") if path.is_file())


def files_of(session: Path) -> list[Path]:
    """The file, what SQLite keeps beside it while it is open or after a crash, and bookmarks."""
    suffixes = ("-wal", "-shm", BESIDE_SUFFIX)
    beside = (session.with_name(f"{session.name}{suffix}") for suffix in suffixes)
    return [session, *(path for path in beside if path.exists())]


def untouched_days(session: Path) -> float:
    """Days since anything was written to the recording."""
    return (time.time() - max(file.stat().st_mtime for file in files_of(session))) / 86400


def is_under_way(session: Path) -> bool:
    """Whether it is still being recorded: it was not closed, and a recorder writes every second."""
    if untouched_days(session) > _SILENT_DAYS:
        return False
    from profiler.session.listing import session_info

    info = session_info(session)
    return not info.clean_end and not info.problem


def find_session(text: str, folder: Path) -> Path:
    """A file as named, the only one of `folder` whose name begins with `text`, or the newest; of
    starts that came to nothing only where there is nothing else.

    Raises: LlmtopError.
    """
    path = Path(text).expanduser()
    if text != LATEST and path.is_file():
        return path
    if text != LATEST and path.is_dir():
        raise LlmtopError(f"{text} is a folder", "a session is one file; " + LISTED)
    if os.sep in text:
        raise LlmtopError(f"there is no file {text}", LISTED)
    files = session_files(folder)
    if not files:
        what = "" if text == LATEST else f"no file {text}, and "
        raise LlmtopError(f"there is {what}no session in {folder}", "llmtop serve records one")
    if text == LATEST:
        from profiler.session.listing import has_begun

        return next((file for file in reversed(files) if has_begun(file)), files[-1])
    found = [file for file in files if file.name.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LlmtopError(f"{len(found)} sessions begin with {text}", f"such as {found[-1].name}")
    raise LlmtopError(f"there is no session {text}", _nearest(text, files))


def _nearest(text: str, files: list[Path]) -> str:
    near = get_close_matches(text, [file.name for file in files], n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else LISTED
