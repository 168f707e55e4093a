"""What a device can do at most: measured once, kept in the cache folder. No torch unless measured.

Both figures are of this very device, not of its data sheet.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from engine.models.progress import Progress

if TYPE_CHECKING:
    from engine.config import EngineConfig

PHASE: Final = "measure"
_MAX_FILE_BYTES: Final = 4096


class Ceilings(msgspec.Struct, frozen=True):
    """Bytes read from the device's memory per second, and floating-point operations of a large
    matrix product in `dtype`. `how_read` and `how_matmul` say how they were measured."""

    device: str
    dtype: str
    read_bytes_per_s: float
    matmul_flops_per_s: float
    how_read: str
    how_matmul: str


def find_ceilings(config: EngineConfig, cache_dir: Path, progress: Progress) -> Ceilings | None:
    """Those of the configured device, out of the cache; a GPU's are measured if need be (1 to 2 s).

    A CPU has other things to do at a start: on a shared one a first reading was 22 GB/s and the
    next 52. So None until somebody has it measured when it is quiet. Raises: EngineError;
    RuntimeError when the device cannot be measured.
    """
    from engine.measuring import Subject  # torch

    subject = Subject.of(config)
    store = CeilingStore(cache_dir)
    found = store.read(subject.device_name, subject.dtype_name)
    if found is None and subject.device.type == "cuda":
        found = subject.measure(progress)
        with suppress(OSError):  # measured again at the next start
            store.write(found)
    return found


def measure_ceilings(config: EngineConfig, cache_dir: Path, progress: Progress) -> Ceilings:
    """As `find_ceilings`, but measured anew. Raises: also OSError when they cannot be kept."""
    from engine.measuring import Subject

    found = Subject.of(config).measure(progress)
    CeilingStore(cache_dir).write(found)
    return found


class CeilingStore:
    """`cache_dir`/ceilings: one small JSON file a device and number format."""

    def __init__(self, cache_dir: Path) -> None:
        self._folder = cache_dir / "ceilings"

    def path(self, device: str, dtype: str) -> Path:
        name = hashlib.sha256(f"{device}\n{dtype}".encode()).hexdigest()[:16]
        return self._folder / f"{name}.json"

    def read(self, device: str, dtype: str) -> Ceilings | None:
        """None if there are none, or the file is not one that we wrote."""
        try:
            data = _own_bytes(self.path(device, dtype))
            found = msgspec.json.decode(data, type=Ceilings)
        except (OSError, msgspec.MsgspecError):
            return None
        rates = (found.read_bytes_per_s, found.matmul_flops_per_s)
        is_sane = all(math.isfinite(rate) and rate > 0 for rate in rates)
        return found if is_sane and (found.device, found.dtype) == (device, dtype) else None

    def write(self, ceilings: Ceilings) -> None:
        """Raises: OSError."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path(ceilings.device, ceilings.dtype)
        beside = path.with_suffix(f".{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        beside.unlink(missing_ok=True)
        with open(os.open(beside, flags, 0o600), "wb") as file:
            file.write(msgspec.json.encode(ceilings))
        beside.replace(path)


def _own_bytes(path: Path) -> bytes:
    """Raises: OSError when there is no such file, or others may have written it."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.getuid()
        if not is_ours or facts.st_mode & 0o022:
            raise PermissionError(path)
        return file.read(_MAX_FILE_BYTES)
