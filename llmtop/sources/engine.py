"""A server of our own: started here, watched over its stream like any other, ended with us."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from llmtop.own_code import child_environment
from llmtop.sanitize import clean_line
from llmtop.sources.base import Replay
from llmtop.sources.remote import RemoteSource
from llmtop.viewmodel import Connection
from profiler.session.ring import Ring
from profiler.state import SessionState

if TYPE_CHECKING:
    from llmtop.proxy.config import ProxyConfig
    from llmtop.serving_config import ServeConfig

SERVER_MODULE: Final = "llmtop.serving"
_TERM_WITHIN_S: Final = 5.0
_LAST_LINES: Final = 200


class EngineSource:
    """Owns the server process. Its standard input is the lifeline: when we end in any way, the
    kernel closes it, and the server drains and stops.
    """

    mode: Literal["LIVE"] = "LIVE"

    def __init__(
        self,
        config: ServeConfig | ProxyConfig,
        listener: socket.socket,
        base_url: str,
        command: tuple[str, ...] | None = None,
        module: str = SERVER_MODULE,
    ) -> None:
        self._config = config
        self._listener = listener
        self._command = command or (sys.executable, "-P", "-m", module)
        self._remote = RemoteSource(base_url, config.api_key)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._listening: threading.Thread | None = None
        self._met = False
        self._stopped_recording = False

    @property
    def address(self) -> str:
        return self._remote.address

    @property
    def recorded(self) -> Path | None:
        """The file into which the server records or did, None where it does not."""
        path = self._config.session_path
        return None if path is None or not self._config.record else Path(path)

    @property
    def session_file(self) -> Path | None:
        return self._remote.session_file or self.recorded

    @property
    def bytes_recorded(self) -> int | None:
        """Size of the session file with its write-ahead log, None once nothing is written to it."""
        path = self.recorded
        if path is None or self._stopped_recording:
            return self._remote.bytes_recorded
        sizes = [_size(path), _size(path.with_name(path.name + "-wal"))]
        return None if sizes[0] is None else sum(s or 0 for s in sizes)

    @property
    def ring(self) -> Ring:
        return self._remote.ring

    def keep(self) -> str:
        path = self.recorded
        if path is None or self._stopped_recording:
            return self._remote.keep()
        return f"recorded already: {path}"

    @property
    def farewell(self) -> str:
        if self._process is None or self._process.poll() is not None:
            return ""
        return "stopping the server: what is under way is finished first, Ctrl-C cuts it short"

    @property
    def replay(self) -> Replay | None:
        return None

    @property
    def connection(self) -> Connection:
        if self._process is not None and self._process.poll() is not None:
            return self._epitaph(self._process.returncode)
        connection = self._remote.connection
        if connection.status == "connected":
            self._met = True
        elif connection.status in ("connecting", "reconnecting") and not self._met:
            return Connection("starting", "waiting for the server process")
        return connection

    @property
    def pid(self) -> int | None:
        """Of the server process, None before it was started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(descriptor,),
            env=child_environment(),
            # A Ctrl-C meant for us reaches the whole foreground group; the server is to drain.
            start_new_session=True,
        )
        self._listening = threading.Thread(target=self._listen, name="llmtop-stderr", daemon=True)
        self._listening.start()
        self._hand_over(self._process)
        # The server holds the socket now: once it is gone, a connection is to be refused.
        self._listener.close()
        self._remote.start()

    def poll(self, now_ns: int) -> SessionState:
        state = self._remote.poll(now_ns)
        self._stopped_recording = state.recording is not None and bool(state.recording.error)
        return state

    def stop(self) -> None:
        """End the lifeline and wait for the drain; an interrupt cuts it short."""
        self._remote.stop()
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(self._config.drain_timeout_s + _TERM_WITHIN_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _end(process)

    def _hand_over(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(self._config) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            # It died at once; `connection` will say of what.
            pass

    def _listen(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        for line in self._process.stderr:
            text = clean_line(line.decode("utf-8", "replace").rstrip())
            if text:
                self._said.append(text)

    def _epitaph(self, code: int) -> Connection:
        if self._listening is not None:
            self._listening.join(timeout=1)
        if code == 0:
            return Connection("ended", "the server has stopped")
        error = _last_after("error: ", self._said)
        if error:
            return Connection("failed", error, _last_after("hint: ", self._said))
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        last = f": {self._said[-1]}" if self._said else ""
        return Connection("failed", f"the server {how}{last}")


def _last_after(prefix: str, lines: deque[str]) -> str:
    return next((s.removeprefix(prefix) for s in reversed(lines) if s.startswith(prefix)), "")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TERM_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
