"""Starting the core process. Imports little, so that the core starts before anything else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import msgspec

from engine.config import EngineConfig
from engine.models.lifeline import dying_with_parent
from engine.server.wire import CoreOrder

CORE_MODULE: Final = "engine.server.core_process"


class CoreLaunch:
    """A core process that has just been started, the pipes of its output and its pulse, and its
    private folder.

    The core lives no longer than this process: when we end in any way, the kernel closes our end of
    its standard input, at which it exits, and on Linux kills it. Linux takes the end of the thread
    that made the launch for ours, so that is to be the main thread.
    """

    def __init__(
        self,
        config: EngineConfig,
        cache_dir: Path,
        observe: bool = True,
        command: tuple[str, ...] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="llmtop-"))  # mkdtemp makes it 0700
        self.endpoint = f"ipc://{self.folder / 'core'}"
        pulse, beats = os.pipe()
        self.pulse = open(pulse, "rb", buffering=0)
        self.process = subprocess.Popen(
            command or (sys.executable, "-P", "-m", CORE_MODULE),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(beats,),
            preexec_fn=dying_with_parent(),
            env=_environment(),
        )
        os.close(beats)
        order = CoreOrder(config, str(cache_dir), self.endpoint, beats, observe)
        self._stdin = _pipe(self.process.stdin)
        self._stdin.write(msgspec.json.encode(order) + b"\n")
        self._stdin.flush()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> IO[bytes]:
        return _pipe(self.process.stdout)

    def end(self, timeout_s: float) -> int:
        """The exit status, once the core is gone: it is killed after `timeout_s`."""
        self._stdin.close()
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.pulse.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the process was started without this pipe")
    return stream


def _environment() -> dict[str, str]:
    """Ours, with our packages first on the path, so that the core runs this very code."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
