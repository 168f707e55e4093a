"""Starting the process that observes."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from typing import Final, Self

import msgspec

from llmtop.errors import LlmtopError
from llmtop.own_code import child_environment
from llmtop.proxy.config import ObserverConfig, ProxyConfig
from llmtop.proxy.event_pipe import EventPipe

MODULE: Final = "llmtop.proxy.observing"
_BACKLOG: Final = 64


class ObserverLaunch:
    """A process that was just started, the pipe of events to it, and the socket at which it
    answers: we own both.

    The pipe is its standard input, whose end is the end of the session: when we end in any way, the
    kernel closes the pipe, and the observer writes what it has and ends. A Ctrl-C or a signal to
    all processes of a group is for us: it runs in a session of its own.
    """

    def __init__(self, process: asyncio.subprocess.Process, socket_fd: int) -> None:
        assert process.stdin is not None
        self._process = process
        self._socket_fd = socket_fd
        self.pipe = EventPipe(process.stdin.transport)

    @classmethod
    async def start(cls, config: ProxyConfig, url: str, is_quiet: bool) -> Self:
        """Raises: LlmtopError where the temporary folder can hold no socket."""
        with socket.socket(socket.AF_UNIX) as listener:
            socket_fd = _bound_and_unlinked(listener)
            listener.listen(_BACKLOG)
            told = ObserverConfig(config, url, listener.fileno(), os.getpid(), is_quiet)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", MODULE),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(listener.fileno(),),
                env=child_environment(),
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(told) + b"\n")
        return cls(process, socket_fd)

    @property
    def socket_path(self) -> str:
        """It leads there for this process alone, until `end`."""
        return f"/proc/self/fd/{self._socket_fd}"

    async def ended(self) -> int:
        """Its exit status, once it is gone."""
        return await self._process.wait()

    async def end(self, timeout_s: float) -> bool:
        """Whether it ended with the session; it is killed after `timeout_s`."""
        self.pipe.close()
        try:
            async with asyncio.timeout(timeout_s):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        os.close(self._socket_fd)
        return status == 0


def _bound_and_unlinked(listener: socket.socket) -> int:
    """A descriptor of the name that `listener` gets. The name itself is gone: processes that are
    killed can leave nothing behind. The caller closes it.

    Raises: LlmtopError where the temporary folder can hold no socket.
    """
    with tempfile.TemporaryDirectory(prefix="llmtop-") as folder:  # of mode 0700
        path = os.path.join(folder, "observer")
        try:
            listener.bind(path)
        except OSError as error:
            hint = "set TMPDIR to another folder: its path may be too long"
            raise LlmtopError(f"no socket in {folder}: {error}", hint) from None
        return os.open(path, os.O_PATH)
