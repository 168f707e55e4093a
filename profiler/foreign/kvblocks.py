"""Numbers for the blocks of another server: their hashes stay here, in memory alone."""

from __future__ import annotations

import heapq
from typing import Final

from profiler.block_events import FIRST, UNTOLD, BlockDelta, BlockRun
from profiler.foreign.kvmessage import Cleared, Hash, Message, Removed, Scope, Stored

MAX_BLOCKS: Final = 1 << 20
MAX_SCOPES: Final = 64


class KvBlocks:
    """Holds the hash of each block that is there, in memory alone. Ranks share the numbers; the
    hashes of one say nothing of another's."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, Scope], dict[Hash, int]] = {}
        self._copies: list[int] = []
        self._free: list[int] = []
        self._runs: list[BlockRun] = []
        self._strangers = 0

    def forget(self, rank: int) -> None:
        """As if nothing had been heard of this rank."""
        for key in [key for key in self._known if key[0] == rank]:
            for block in self._known.pop(key).values():
                self._give_back(block)
        if not self._known:
            self._copies, self._free = [], []

    def fold(
        self, message: Message, batch: int, t_ns: int, late: bool, rank: int = 0
    ) -> BlockDelta:
        """What the message changes. A batch that throws all blocks away is told as that alone with
        what follows it."""
        self._runs, self._strangers, cleared = [], 0, False
        for change in message.changes:
            if isinstance(change, Stored):
                self._store(rank, change)
            elif isinstance(change, Removed):
                self._remove(rank, change)
            elif self._clear(rank, change):
                self._runs, self._strangers, cleared = [], 0, True
        runs = tuple(self._runs)
        return BlockDelta(t_ns, batch, runs, self._strangers, late, cleared, rank)

    def _store(self, rank: int, change: Stored) -> None:
        known = self._of(rank, change.scope)
        if known is None:
            self._strangers += len(change.hashes)
            return
        parent = FIRST if change.parent is None else known.get(change.parent, UNTOLD)
        for found in change.hashes:
            block = known.get(found)
            if block is not None:
                self._copies[block] += 1
                self._add(BlockRun("copy", block, 1))
            else:
                block = self._number()
                if block is None:
                    self._strangers += 1
                    parent = UNTOLD
                    continue
                known[found] = block
                run = BlockRun("store", block, 1, parent, change.tokens, change.scope.medium)
                self._add(run)
            parent = block

    def _remove(self, rank: int, change: Removed) -> None:
        known = self._known.get((rank, change.scope), {})
        for found in change.hashes:
            block = known.get(found)
            if block is None:
                self._strangers += 1
            elif self._copies[block] > 1:
                self._copies[block] -= 1
                self._add(BlockRun("drop", block, 1))
            else:
                del known[found]
                self._give_back(block)
                self._add(BlockRun("remove", block, 1))

    def _clear(self, rank: int, change: Cleared) -> bool:
        """Whether these were all blocks: else those of one replica are removed one by one."""
        scopes = [scope for of, scope in self._known if of == rank]
        mine = [scope for scope in scopes if scope.rank == change.rank]
        if len(mine) == len(scopes):
            self.forget(rank)
            return True
        for scope in mine:
            for block in self._known.pop((rank, scope)).values():
                self._give_back(block)
                self._add(BlockRun("remove", block, 1))
        return False

    def _of(self, rank: int, scope: Scope) -> dict[Hash, int] | None:
        key = (rank, scope)
        if key not in self._known and len(self._known) >= MAX_SCOPES:
            return None
        return self._known.setdefault(key, {})

    def _number(self) -> int | None:
        if self._free:
            block = heapq.heappop(self._free)
            self._copies[block] = 1
            return block
        if len(self._copies) >= MAX_BLOCKS:
            return None
        self._copies.append(1)
        return len(self._copies) - 1

    def _give_back(self, block: int) -> None:
        self._copies[block] = 0
        heapq.heappush(self._free, block)

    def _add(self, run: BlockRun) -> None:
        """To the newest run, if it goes on from there."""
        last = self._runs[-1] if self._runs else None
        if last is not None and _goes_on(last, run):
            run = BlockRun(last.op, last.block, last.count + 1, *_rest(last))
            self._runs[-1] = run
        else:
            self._runs.append(run)


def _goes_on(last: BlockRun, run: BlockRun) -> bool:
    if run.op != last.op or run.block != last.block + last.count:
        return False
    if run.op != "store":
        return True
    same = (run.tokens, run.medium) == (last.tokens, last.medium)
    return same and run.parent == run.block - 1


def _rest(run: BlockRun) -> tuple[int, int, str]:
    return run.parent, run.tokens, run.medium
