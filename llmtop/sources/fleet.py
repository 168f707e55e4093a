"""Several servers as one source."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from llmtop.peer import Address
from llmtop.sources.kept import KeptSource
from llmtop.sources.watched import Watched
from llmtop.viewmodel import Connection
from profiler.events import AnyEvent
from profiler.findings.watch import Watch
from profiler.state import SessionState


class FleetSource(KeptSource):
    """Each server has a thread; `poll` folds what all of them have read, on this host's clock, and
    what is found between them."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        super().__init__()
        self._addresses = addresses
        self._inbox: deque[AnyEvent] = deque()
        self._watched = [
            Watched(number, address, self._inbox.append)
            for number, address in enumerate(addresses, 1)
        ]
        self._state = SessionState()
        self._watch = Watch()
        self._seq = 0

    @property
    def address(self) -> str:
        return ", ".join(address.name for address in self._addresses)

    @property
    def connection(self) -> Connection:
        told = [replica.told for replica in self._state.fleet.replicas.values()]
        if any(one.status == "up" for one in told):
            return Connection("connected")
        if not told or any(one.status == "asked" for one in told):
            return Connection("connecting")
        met = any(one.engine for one in told)
        why = f"none of {len(told)} servers can be read: {told[0].detail}; trying again"
        return Connection("reconnecting" if met else "connecting", why)

    def start(self) -> None:
        for watched in self._watched:
            self._fold(watched.asked())
        self.ring.begin(self._state)
        for watched in self._watched:
            watched.start()

    def stop(self) -> None:
        for watched in self._watched:
            watched.stop()
        self._keeper.end()

    def poll(self, now_ns: int) -> SessionState:
        for _ in range(len(self._inbox)):
            self._take(self._inbox.popleft())
        self._state.advance(now_ns)
        return self._state

    def _fold(self, event: AnyEvent) -> None:
        self._seq += 1
        self._state.apply(event, self._seq)

    def _take(self, event: AnyEvent) -> None:
        self._fold(event)
        self.ring.append(event, self._state)
        for finding in self._watch.look(self._state):
            self._take(finding)
