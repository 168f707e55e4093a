"""One rank's KV events over ZeroMQ, as vLLM publishes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from llmtop.sources.kvendpoints import KvEndpoints
from profiler.events import AnyEvent, BlockMapBegin, Log
from profiler.foreign.kvblocks import KvBlocks
from profiler.foreign.kvmessage import MAX_MESSAGE_BYTES
from profiler.foreign.kvstream import KvStream, Numbered

# A server answers between two of its own messages, 100 ms at most.
ANSWER_MS: Final = 3000
_MAX_WAITING: Final = 20_000
# vLLM keeps 10,000 batches (buffer_steps); a batch of one step has some KB.
_MAX_BATCHES: Final = 100_000
_MAX_ANSWER_BYTES: Final = 256 << 20
_END: Final = (-1).to_bytes(8, "big", signed=True)
_SEEN: Final = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED

Handlers = dict[Any, Callable[[], None]]


class KvLine:
    """Lives on the thread that opens it. `stopping` ends what it waits for."""

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoints: KvEndpoints,
        rank: int,
        blocks: KvBlocks,
        emit: Callable[[AnyEvent], None],
        stopping: threading.Event,
    ) -> None:
        self._context = context
        self._endpoints = endpoints
        self._rank = rank
        self._emit = emit
        self._stopping = stopping
        self._stream = KvStream(self._ask, rank, blocks)

    def expect(self) -> None:
        """Tell that it will be heard."""
        now = time.monotonic_ns()
        self._emit(BlockMapBegin(now, "connecting", whole=False, rank=self._rank))

    def open(self) -> Handlers:
        """The sockets to poll, and what to do about each that is ready. `close` gives them back."""
        self._live = self._socket(zmq.SUB)
        monitor = self._live.get_monitor_socket(_SEEN)
        self._live.subscribe(b"")
        self._live.connect(self._endpoints.live)
        return {
            monitor: lambda: self._seen(recv_monitor_message(monitor)["event"]),
            self._live: lambda: self._take(self._live.recv_multipart()),
        }

    def close(self) -> None:
        self._live.disable_monitor()
        self._live.close()

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RCVHWM, _MAX_WAITING)
        socket.setsockopt(zmq.RECONNECT_IVL, 250)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 8000)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        return socket

    def _seen(self, event: int) -> None:
        now = time.monotonic_ns()
        if event == zmq.EVENT_DISCONNECTED:
            self._log("warning", f"KV events: the connection to {self._endpoints.live} is lost")
            self._tell(self._stream.broke(now))
        else:
            self._log("info", f"KV events: connected to {self._endpoints.live}")
            self._tell(self._stream.begin(now))

    def _take(self, frames: list[bytes]) -> None:
        batch = _numbered(frames)
        if batch is not None:
            self._tell(self._stream.take(batch, time.monotonic_ns()))

    def _tell(self, events: list[Any]) -> None:
        for event in events:
            self._emit(event)

    def _log(self, level: str, text: str) -> None:
        self._emit(Log(time.monotonic_ns(), level, "viewer", text))

    def _ask(self, since: int) -> list[Numbered] | None:
        if not self._endpoints.replay:
            return None
        socket = self._socket(zmq.DEALER)
        try:
            socket.connect(self._endpoints.replay)
            socket.send_multipart((b"", since.to_bytes(8, "big")))
            return self._answers(socket)
        finally:
            socket.close()

    def _answers(self, socket: zmq.Socket[bytes]) -> list[Numbered] | None:
        """None where no end comes."""
        found: list[Numbered] = []
        num_bytes = 0
        while not self._stopping.is_set() and socket.poll(ANSWER_MS):
            frames = socket.recv_multipart()
            if len(frames) >= 3 and frames[-2] == _END:
                return found
            batch = _numbered(frames)
            if batch is None:
                continue
            found.append(batch)
            num_bytes += len(batch.data)
            if len(found) > _MAX_BATCHES or num_bytes > _MAX_ANSWER_BYTES:
                break
        self._log("warning", f"KV events: no whole answer from {self._endpoints.replay}")
        return None


def _numbered(frames: list[bytes]) -> Numbered | None:
    """The last two frames are the number and the batch; the topic may stand before them."""
    if not 2 <= len(frames) <= 4 or len(frames[-2]) != 8:
        return None
    return Numbered(int.from_bytes(frames[-2], "big"), frames[-1])
