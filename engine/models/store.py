"""Model folders in the cache: each is made once, whole or not at all, by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import ModelError

BUILDING: Final = ".building-"
MIB: Final = 1 << 20


class ModelStore:
    """`cache_dir`/models. A folder that is there is complete: it was renamed into place."""

    def __init__(self, cache_dir: Path) -> None:
        self._root = cache_dir / "models"

    def path(self, name: str) -> Path:
        return self._root / name

    def has(self, name: str) -> bool:
        return self.path(name).is_dir()

    def ensure(self, name: str, need_bytes: int, build: Callable[[Path], None]) -> Path:
        """The folder called `name`, filled by `build` if it is not there yet.

        A second process that wants the same folder waits for the first. Raises: ModelError when
        less than `need_bytes` are free or the disk cannot be written.
        """
        if self.has(name):
            return self.path(name)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._locked(name):
                if not self.has(name):
                    self._require_space(need_bytes)
                    self._build(name, build)
        except OSError as error:
            raise _disk_error(self._root, error) from error
        return self.path(name)

    def _build(self, name: str, build: Callable[[Path], None]) -> None:
        for stale in self._root.glob(f"{BUILDING}{name}-*"):  # of a process that was killed
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{BUILDING}{name}-", dir=self._root))
        try:
            build(folder)
            folder.rename(self.path(name))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._root / f".{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _require_space(self, need_bytes: int) -> None:
        free_bytes = shutil.disk_usage(self._root).free
        if free_bytes < need_bytes:
            raise ModelError(
                f"{self._root} has {free_bytes // MIB} MiB free,"
                f" and the model needs {need_bytes // MIB} MiB there",
                "Make room, or set LLMTOP_HOME to a folder on another disk.",
            )


def _disk_error(root: Path, error: OSError) -> ModelError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "the disk is full" if full else error.strerror or str(error)
    return ModelError(
        f"{root} cannot be written: {what}",
        "Make room, or set LLMTOP_HOME to a folder that can be written.",
    )
