"""Listens to another server's KV events, all ranks of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import zmq

from llmtop.priority import give_way
from llmtop.sources.kvendpoints import KvEndpoints
from llmtop.sources.kvline import Handlers, KvLine
from profiler.events import AnyEvent
from profiler.foreign.kvblocks import KvBlocks

_POLL_MS: Final = 200


class KvFeed:
    """A thread of its own passes what it makes of each batch to `emit`. One thread hears all ranks:
    their blocks share numbers, and are told in the order in which these are given."""

    def __init__(self, endpoints: Sequence[KvEndpoints], emit: Callable[[AnyEvent], None]) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._stopping = threading.Event()
        blocks = KvBlocks()
        self._lines = [
            KvLine(self._context, one, rank, blocks, emit, self._stopping)
            for rank, one in enumerate(endpoints)
        ]
        self._thread = threading.Thread(target=self._run, name="llmtop-kv", daemon=True)

    def start(self) -> None:
        for line in self._lines:
            line.expect()
        self._thread.start()

    def stop(self) -> None:
        """Waits for what is under way; the thread gives its sockets back itself."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=0.5)

    def _run(self) -> None:
        give_way()
        opened: list[KvLine] = []
        try:
            handlers: Handlers = {}
            for line in self._lines:
                handlers |= line.open()
                opened.append(line)
            self._hear(handlers)
        finally:
            for line in opened:
                line.close()
            self._context.term()

    def _hear(self, handlers: Handlers) -> None:
        poller = zmq.Poller()
        for socket in handlers:
            poller.register(socket, zmq.POLLIN)
        while not self._stopping.is_set():
            for socket, _ in poller.poll(_POLL_MS):
                handlers[socket]()
