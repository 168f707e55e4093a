"""Files that a person asked for: whole or not there, for their owner alone, nothing overwritten."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from llmtop.errors import LlmtopError


@contextmanager
def new_file(path: Path, force: bool = False) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name when the block ends well, and is gone if it does not.

    Raises: LlmtopError when `path` exists and `force` does not allow to replace it, or when it
    cannot be written.
    """
    refuse_existing(path, force)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    except OSError as error:
        raise _cannot_write(path, error) from None
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        refuse_existing(path, force)
        written.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        written.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A folder to write files into, which gets its name when the block ends well.

    With `force` the files replace those of the same name in a folder that exists; others stay.
    Raises: LlmtopError, as `new_file`.
    """
    refuse_existing(path, force)
    try:
        written = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        yield written
        refuse_existing(path, force)
        if path.exists():
            for file in written.iterdir():
                file.replace(path / file.name)
        else:
            written.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        shutil.rmtree(written, ignore_errors=True)


def refuse_early(path: Path, force: bool) -> None:
    """Raises what `new_file` would: before long work, not after."""
    refuse_existing(path, force)
    try:
        tempfile.TemporaryFile(dir=path.absolute().parent).close()
    except OSError as error:
        raise _cannot_write(path, error) from None


def refuse_existing(path: Path, force: bool) -> None:
    """Raises: LlmtopError when `path` exists and `force` does not allow to replace it."""
    if path.exists() and not force:
        raise LlmtopError(f"{path} exists", "--force replaces it, -o names another")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise LlmtopError(f"{path} is no file", "-o names another; a device is not replaced")


def refuse_source(path: Path, source: Path) -> None:
    """Raises: LlmtopError when `path` is the file that is read: no `force` allows that."""
    if path.exists() and path.samefile(source):
        raise LlmtopError(f"{path} is the recording itself", "-o names another file")


def _cannot_write(path: Path, error: OSError) -> LlmtopError:
    return LlmtopError(f"cannot write {path}: {error.strerror or error}")
