"""The server's end of the core process, on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from typing import Final, Protocol

import msgspec
import zmq

from engine.errors import EngineError
from engine.request import EngineRequest, TokenOutput
from engine.server.launch import CoreLaunch
from engine.server.pulse import Watchdog
from engine.server.wire import (
    Abort,
    Add,
    Capture,
    Command,
    Failed,
    Finish,
    Located,
    MeasureObserver,
    Outputs,
    Ready,
    Refused,
    Report,
    Shutdown,
)
from profiler.events import AnyEvent

TAIL_LINES: Final = 20
LAST_WORDS_MS: Final = 500
MAX_LINE_BYTES: Final = 4096
MAX_BEATS_BYTES: Final = 4096
# torch's profiler writes two such lines for each capture, minutes before what it would explain.
PROFILER_PROBE: Final = "USDT:"
SILENT_DEATH_HINT: Final = "If memory ran out, the system's log names the process it killed."


class CoreDiedError(EngineError):
    """The core process ended although nobody asked it to."""


class CoreListener(Protocol):
    """Who hears from the core. All calls come on the event loop, in the core's order."""

    def on_located(self, path: str, name: str) -> None: ...
    def on_ready(self, ready: Ready) -> None: ...
    def on_outputs(self, outputs: list[TokenOutput]) -> None: ...
    def on_events(self, events: list[AnyEvent]) -> None: ...
    def on_refused(self, refused: Refused) -> None: ...
    def on_output_line(self, line: str) -> None: ...
    def on_failed(self, error: EngineError) -> None: ...


class CoreClient:
    """Sends commands to a launched core and hands its reports to a listener.

    Must be made on the event loop. `on_failed` is called once, when the core reports a failure or
    is found dead; after `stop` began it is not called. `watchdog` hears the core's pulse.
    """

    def __init__(self, launch: CoreLaunch, listener: CoreListener, watchdog: Watchdog) -> None:
        self.watchdog = watchdog
        self._launch = launch
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._stopping = False
        self._failure: EngineError | None = None
        self._exited = asyncio.Event()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)  # no command is lost while the core is in a step
        self._socket.bind(launch.endpoint)
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._drain)
        self._loop.call_soon(self._drain)
        self._pulse_fd = launch.pulse.fileno()
        self._loop.add_reader(self._pulse_fd, self._feel)
        threading.Thread(target=self._watch, name="core-watch", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._launch.pid

    @property
    def alive(self) -> bool:
        return self._failure is None and not self._exited.is_set()

    def add(self, request: EngineRequest) -> None:
        self._send(Add(request))

    def abort(self, request: int, reason: str) -> None:
        self._send(Abort(request, reason))

    def finish(self, request: int, reason: str) -> None:
        self._send(Finish(request, reason))

    def capture(self, num_steps: int) -> None:
        self._send(Capture(num_steps))

    def measure_observer(self) -> None:
        self._send(MeasureObserver())

    async def stop(self, timeout_s: float) -> None:
        """Returns when the core is gone: asked first, killed after `timeout_s`."""
        self._stopping = True
        self._send(Shutdown())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), timeout_s)
        self._loop.remove_reader(self._pulse_fd)
        await asyncio.to_thread(self._launch.end, 0.0)
        self._loop.remove_reader(self._fd)
        self._socket.close()

    def _send(self, command: Command) -> None:
        if not self.alive or self._socket.closed:  # word of the core's end may come after `stop`
            return
        with contextlib.suppress(zmq.Again):
            self._socket.send(self._encoder.encode(command), zmq.DONTWAIT)
        # Sending may swallow the edge that says there is something to read.
        self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        while not self._socket.closed:
            try:
                data = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._hear(self._decoder.decode(data))

    def _feel(self) -> None:
        beats = os.read(self._pulse_fd, MAX_BEATS_BYTES)
        if beats:
            self.watchdog.hear(beats)
        else:
            self._loop.remove_reader(self._pulse_fd)

    def _hear(self, report: Report) -> None:
        match report:
            case Outputs(outputs, events):
                if outputs:
                    self._listener.on_outputs(outputs)
                if events:
                    self._listener.on_events(events)
            case Refused():
                self._listener.on_refused(report)
            case Ready():
                self._listener.on_ready(report)
            case Located(path, name):
                self._listener.on_located(path, name)
            case Failed(message, hint):
                self._fail(EngineError(message, hint))

    def _fail(self, error: EngineError) -> None:
        if self._failure is None and not self._stopping:
            self._failure = error
            self._listener.on_failed(error)

    def _watch(self) -> None:
        """In its own thread: reads what the core prints, then waits for its end."""
        reader = threading.Thread(target=self._read_output, name="core-output", daemon=True)
        reader.start()
        status = self._launch.process.wait()
        reader.join(1.0)  # a grandchild may hold the pipe open
        self._call(self._on_exit, status)

    def _read_output(self) -> None:
        while line := self._launch.output.readline(MAX_LINE_BYTES):
            text = line.decode(errors="replace").rstrip()
            if text and not text.startswith(PROFILER_PROBE):
                self._tail.append(text)
                self._call(self._listener.on_output_line, text)

    def _call(self, function: object, argument: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, argument)  # type: ignore[arg-type]

    def _on_exit(self, status: int) -> None:
        self._drain()
        # The socket's own thread may not have read the last words yet.
        while status > 0 and self.alive and not self._stopping:
            if not self._socket.poll(LAST_WORDS_MS):
                break
            self._drain()
        self._exited.set()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        hint = f"Its last line: {self._tail[-1]}" if self._tail else SILENT_DEATH_HINT
        self._fail(CoreDiedError(f"the engine core {how}", hint))
