"""The engine core in a process of its own: `python -m engine.server.core_process`."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import zmq

from engine.config import EngineConfig
from engine.errors import EngineError, InvalidRequestError, QueueFullError
from engine.request import EngineRequest, TokenOutput
from engine.server.pulse import start_pulse
from engine.server.wire import (
    Abort,
    Add,
    Capture,
    Command,
    CoreOrder,
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
from profiler.events import AnyEvent, Log, Phase

if TYPE_CHECKING:
    from engine.ceilings import Ceilings
    from engine.models.progress import Progress

STDIN: Final = 0
FAREWELL_MS: Final = 1000


class Engine(Protocol):
    """What the loop needs of `engine.core.EngineCore`."""

    @property
    def has_work(self) -> bool: ...
    def add(self, request: EngineRequest) -> None: ...
    def abort(self, request: int, reason: str) -> None: ...
    def finish(self, request: int, reason: str) -> None: ...
    def capture(self, num_steps: int) -> None: ...
    def measure_observer(self) -> None: ...
    def close(self) -> None: ...
    def step(self) -> list[TokenOutput]: ...


class Link:
    """The core's end of the socket. Sending never waits for the server."""

    def __init__(self, endpoint: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.LINGER, FAREWELL_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 10)
        self._socket.connect(endpoint)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Command)

    def send(self, report: Report) -> None:
        self._socket.send(self._encoder.encode(report))

    def receive(self, *, block: bool) -> Command | None:
        """The next command, or None if there is none and `block` is false."""
        try:
            data = self._socket.recv(0 if block else zmq.DONTWAIT)
        except zmq.Again:
            return None
        command: Command = self._decoder.decode(data)
        return command

    def close(self) -> None:
        self._socket.close()
        zmq.Context.instance().term()


class CoreLoop:
    """Steps the engine while it has work, and waits for a command while it has none.

    `events` is the list that the engine's `emit` appends to; each message takes and clears it.
    `num_steps` counts the steps that were done.
    """

    def __init__(self, engine: Engine, link: Link, events: list[AnyEvent]) -> None:
        self._engine = engine
        self._link = link
        self._events = events
        self.num_steps = 0

    def run(self) -> None:
        """Returns after a Shutdown."""
        self._report([])
        while self._take_commands():
            # A prefill step takes up to minutes on a CPU: until its end nothing of what waits for
            # it was to be seen.
            self._report([])
            if self._engine.has_work:
                self._report(self._step())
        self._engine.close()
        self._report([])

    def _step(self) -> list[TokenOutput]:
        outputs = self._engine.step()
        self.num_steps += 1
        return outputs

    def _take_commands(self) -> bool:
        command = self._link.receive(block=not self._engine.has_work)
        while command is not None:
            if isinstance(command, Shutdown):
                return False
            self._obey(command)
            command = self._link.receive(block=False)
        return True

    def _obey(self, command: Add | Abort | Finish | Capture | MeasureObserver) -> None:
        match command:
            case Add(request):
                self._add(request)
            case Abort(number, reason):
                self._engine.abort(number, reason)
            case Finish(number, reason):
                self._engine.finish(number, reason)
            case Capture(num_steps):
                self._try(lambda: self._engine.capture(num_steps))
            case MeasureObserver():
                self._try(self._engine.measure_observer)

    def _try(self, order: Callable[[], None]) -> None:
        try:
            order()
        except InvalidRequestError as error:
            self._events.append(Log(time.monotonic_ns(), "warning", "engine", error.message))

    def _add(self, request: EngineRequest) -> None:
        try:
            self._engine.add(request)
        except QueueFullError as error:
            self._link.send(Refused(request.request, True, error.message))
        except InvalidRequestError as error:
            self._link.send(Refused(request.request, False, error.message, error.param))

    def _report(self, outputs: list[TokenOutput]) -> None:
        if outputs or self._events:
            self._link.send(Outputs(outputs, self._events))
            self._events.clear()


def read_order() -> tuple[CoreOrder, Callable[[], None]]:
    """The order in the first line of standard input, and a function that waits for its end."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(STDIN, 1 << 16)
        if not chunk:
            raise SystemExit(1)
        data += chunk

    def wait_for_end() -> None:
        while os.read(STDIN, 1 << 10):
            pass

    return msgspec.json.decode(data, type=CoreOrder), wait_for_end


def die_with_parent(wait_for_end: Callable[[], None]) -> None:
    """Ends this process at once when the parent's end of standard input is closed."""

    def watch() -> None:
        wait_for_end()
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def serve_core(order: CoreOrder, link: Link) -> None:
    """Loads the model and steps it until a Shutdown. Raises: EngineError."""
    from engine.core import EngineCore
    from engine.loading import Loaded, make_runner
    from engine.models.registry import ModelRegistry

    events: list[AnyEvent] = []
    emit = events.append if order.observe else _ignore

    def progress(phase: str, done: int, total: int, unit: str) -> None:
        link.send(Outputs([], [Phase(time.monotonic_ns(), phase, done, total, unit)]))

    def load(config: EngineConfig, cache_dir: Path, progress: Progress) -> Loaded:
        folder = ModelRegistry(cache_dir).resolve(config.model, progress)
        link.send(Located(str(folder.path), folder.name))
        # Before the weights: what it takes of the memory is free again when pages are planned.
        ceilings = _ceilings(config, cache_dir, progress, emit) if order.observe else None
        return Loaded(folder, make_runner(config, folder, progress), ceilings)

    core = EngineCore(order.config, Path(order.cache_dir), emit, progress, load=load)
    link.send(Ready(core.session_start()))
    # What is here now stays: the collector need not look at it again in the middle of a step.
    gc.collect()
    gc.freeze()
    loop = CoreLoop(core, link, events)
    start_pulse(order.pulse_fd, lambda: loop.num_steps)
    loop.run()


def _ceilings(
    config: EngineConfig, cache_dir: Path, progress: Progress, emit: Callable[[AnyEvent], None]
) -> Ceilings | None:
    """None, and a line in the log, when the device cannot be measured: serving goes on."""
    from engine.ceilings import find_ceilings

    try:
        return find_ceilings(config, cache_dir, progress)
    except RuntimeError as error:
        text = f"the device's ceilings were not measured, {error}".splitlines()[0]
        emit(Log(time.monotonic_ns(), "warning", "engine", text))
        return None


def _ignore(event: AnyEvent) -> None:
    pass


def main() -> int:
    """The exit status: 0 after a Shutdown, 1 after an error that was reported."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server decides when the core ends
    order, wait_for_end = read_order()
    die_with_parent(wait_for_end)
    link = Link(order.endpoint)
    try:
        serve_core(order, link)
    except EngineError as error:
        link.send(Failed(error.message, error.hint))
        return 1
    except Exception as error:
        traceback.print_exc()
        link.send(Failed(f"{type(error).__name__}: {error}", "this is a bug: please report it"))
        return 1
    finally:
        link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
