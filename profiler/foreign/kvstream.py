"""KV events in their order: what is missing is asked for again, and what stays missing is told."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from profiler.block_events import BlockDelta, BlockMapBegin
from profiler.errors import StreamError
from profiler.foreign.kvblocks import KvBlocks
from profiler.foreign.kvmessage import Message, read_message

_MAX_ROUNDS: Final = 20

MapEvent = BlockMapBegin | BlockDelta


class Numbered(NamedTuple):
    """A batch as it came; `seq` counts them from the server's start."""

    seq: int
    data: bytes


# What the server still has from a number on, oldest first. None if it cannot be asked.
Ask = Callable[[int], list[Numbered] | None]


class KvStream:
    """Turns the batches of one rank into events. Every block that these tell of is in the server's
    cache: where batches are lost for good, the rank's map begins anew. `blocks` is shared by the
    streams whose events make up one map."""

    def __init__(self, ask: Ask, rank: int = 0, blocks: KvBlocks | None = None) -> None:
        self._ask = ask
        self._rank = rank
        self._blocks = KvBlocks() if blocks is None else blocks
        self._forget()

    def _forget(self) -> None:
        self._blocks.forget(self._rank)
        self._last: int | None = None
        self._last_ts = 0.0
        self._last_live = -1

    def begin(self, t_ns: int) -> list[MapEvent]:
        """What a server that is there now remembers, before the first batch is taken."""
        return self._anew("attached", 0, t_ns)

    def broke(self, t_ns: int) -> list[MapEvent]:
        """The connection is lost: nobody knows what the server holds meanwhile."""
        self._forget()
        return [BlockMapBegin(t_ns, "disconnected", whole=False, rank=self._rank)]

    def take(self, batch: Numbered, t_ns: int) -> list[MapEvent]:
        """What a batch changes, with all that was missing before it."""
        events = self._caught_up(batch.seq, t_ns)
        self._last_live = batch.seq
        if self._last is None or batch.seq > self._last:
            events += self._apply(batch, t_ns, late=False)
        return events

    def _caught_up(self, seq: int, t_ns: int) -> list[MapEvent]:
        if seq <= self._last_live:
            return self._anew("restarted", 0, t_ns, seq)
        if self._last is None or seq <= self._last + 1:
            return []
        found = self._remembered(self._last)
        if found and self._is_last(found[0]):
            return self._all([batch for batch in found[1:] if batch.seq < seq], t_ns)
        return self._anew("lost", seq - self._last - 1, t_ns)

    def _is_last(self, batch: Numbered) -> bool:
        """Whether it is the batch that was taken last: a server that began anew has another."""
        try:
            return batch.seq == self._last and read_message(batch.data).ts == self._last_ts
        except StreamError:
            return False

    def _anew(self, reason: str, num_lost: int, t_ns: int, seq: int = -1) -> list[MapEvent]:
        """The map from its beginning, with what the server remembers; `seq` is the batch in hand,
        -1 for none. A server counts from 0, so that nothing was before its batch 0."""
        self._forget()
        found = self._remembered(0)
        whole = seq == 0 if found is None else not found or found[0].seq == 0
        begin = BlockMapBegin(t_ns, reason, whole, num_lost, self._rank)
        return [begin, *self._all(found or [], t_ns)]

    def _remembered(self, since: int) -> list[Numbered] | None:
        """The newest batches without a gap. A server that sends faster than the line takes drops
        some of them: these are asked for again."""
        found = self._ask(since)
        for _ in range(_MAX_ROUNDS):
            hole = _hole(found or [])
            if found is None or hole is None:
                break
            merged = {batch.seq: batch for batch in (*found, *(self._ask(hole) or ()))}
            if len(merged) == len(found):
                break
            found = [merged[seq] for seq in sorted(merged)]
        return found and _newest_run(found)

    def _all(self, batches: list[Numbered], t_ns: int) -> list[MapEvent]:
        events: list[MapEvent] = []
        for batch in batches:
            events += self._apply(batch, t_ns, late=True)
        return events

    def _apply(self, batch: Numbered, t_ns: int, late: bool) -> list[MapEvent]:
        self._last = batch.seq
        try:
            message = read_message(batch.data)
        except StreamError:
            self._blocks.forget(self._rank)
            self._last_ts = 0.0
            return [BlockMapBegin(t_ns, "unreadable", False, 1, self._rank)]
        self._last_ts = message.ts
        return self._told(message, batch.seq, t_ns, late)

    def _told(self, message: Message, seq: int, t_ns: int, late: bool) -> list[MapEvent]:
        delta = self._blocks.fold(message, seq, t_ns, late, self._rank)
        return [delta] if delta.runs or delta.strangers or delta.cleared else []


def _hole(batches: list[Numbered]) -> int | None:
    """The first number that is missing between the first and the last, None for none."""
    for before, after in pairwise(batches):
        if after.seq != before.seq + 1:
            return before.seq + 1
    return None


def _newest_run(batches: list[Numbered]) -> list[Numbered]:
    for at in range(len(batches) - 1, 0, -1):
        if batches[at].seq != batches[at - 1].seq + 1:
            return batches[at:]
    return batches
