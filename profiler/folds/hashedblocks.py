"""The prefix cache of another server, block by block, as far as its KV events tell."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from profiler.block_events import UNTOLD, BlockDelta, BlockMapBegin, BlockRun
from profiler.folds.packing import pack, unpack

MAX_BLOCKS: Final = 1 << 20
MAX_MEDIUMS: Final = 64
# More hashes than a message can hold.
_MAX_STRANGERS: Final = 1 << 24


class HashedBlocksFrame(msgspec.Struct, array_like=True):
    begun: BlockMapBegin | None = None
    whole: bool = False
    batch: int | None = None
    stored: int = 0
    removed: int = 0
    strangers: int = 0
    copies: bytes = b""
    parents: bytes = b""
    tokens: bytes = b""
    t_stored_ns: bytes = b""
    born: bytes = b""
    on: bytes = b""
    mediums: list[str] = []
    births: int = 0


class HashedBlocks:
    """One entry per number of ours in each of `copies` (0: no block has the number now), `parents`
    (see BlockRun), `tokens`, `t_stored_ns` (0 where it was not told) and `on`, an index into
    `mediums`. `num_children` are the blocks that stand right behind it.

    Every block in here is in the server's cache. That these are all holds only while `whole`.
    `stored` and `removed` count since `begun`; `strangers` of the blocks that went were none of
    these. `batch` is the newest one's number, None before the first.

    `version` counts the changes of this very object: of another one, draw everything.
    """

    def __init__(self) -> None:
        self.version = 0
        self.begun: BlockMapBegin | None = None
        self._empty()

    def _empty(self) -> None:
        self.whole = False
        self.batch: int | None = None
        self.stored = self.removed = self.strangers = 0
        self._forget()

    def _forget(self) -> None:
        self.copies: array[int] = array("i")
        self.parents: array[int] = array("i")
        self.tokens: array[int] = array("i")
        self.t_stored_ns: array[int] = array("q")
        self.born: array[int] = array("q")
        self.on = bytearray()
        self.mediums: list[str] = []
        self.num_children: array[int] = array("i")
        self.forks: set[int] = set()
        self._births = 0
        self._totals: list[int] = []
        self.num_distinct = 0

    @property
    def num_numbers(self) -> int:
        """Numbers that a block has, or had."""
        return len(self.copies)

    def num_blocks(self, medium: str | None = None) -> int:
        """Blocks in the server's cache, copies of one another counted each."""
        totals = zip(self.mediums, self._totals, strict=True)
        return sum(total for name, total in totals if medium is None or name == medium)

    def parent(self, block: int) -> int:
        """The block before it, FIRST, or UNTOLD: not known or there no longer."""
        before = self.parents[block]
        if before < 0:
            return before
        # A number that was given anew is another block.
        stands = self.copies[before] > 0 and self.born[before] < self.born[block]
        return before if stands else UNTOLD

    def chain(self, block: int) -> Iterator[int]:
        """The block and those before it, back to where its prompt begins or is not known."""
        while block >= 0:
            yield block
            block = self.parent(block)

    def begin(self, event: BlockMapBegin) -> None:
        self._empty()
        self.begun, self.whole = event, event.whole
        self.version += 1

    def delta(self, event: BlockDelta) -> None:
        """Operations that this version does not know and blocks that cannot be are passed over."""
        self.version += 1
        self.batch = event.batch
        self.strangers += min(max(0, event.strangers), _MAX_STRANGERS)
        if event.cleared:
            self.removed += self.num_blocks()
            self._forget()
            self.whole = True
        for run in event.runs:
            if run.block >= 0 and 0 < run.count <= MAX_BLOCKS - run.block:
                self._run(run, 0 if event.late else event.t_ns)

    def _run(self, run: BlockRun, t_ns: int) -> None:
        blocks = range(run.block, run.block + run.count)
        if run.op == "store":
            self._store(run, blocks, t_ns)
        elif blocks.stop > self.num_numbers:
            return
        elif run.op == "copy":
            for block in blocks:
                self._count(block, 1)
        elif run.op in ("drop", "remove"):
            for block in blocks:
                self._count(block, -1)

    def _store(self, run: BlockRun, blocks: range, t_ns: int) -> None:
        self._resize(blocks.stop)
        on = self._medium(run.medium)
        before = run.parent if run.parent < self.num_numbers else UNTOLD
        for block in blocks:
            if self.copies[block]:
                continue
            self._births += 1
            self.tokens[block] = min(max(0, run.tokens), (1 << 31) - 1)
            self.t_stored_ns[block], self.born[block] = t_ns, self._births
            self.on[block], self.parents[block] = on, max(UNTOLD, before)
            self.num_children[block] = 0
            self._count(block, 1)
            before = block

    def _resize(self, num_numbers: int) -> None:
        more = num_numbers - self.num_numbers
        if more > 0:
            for column in (self.copies, self.parents, self.tokens, self.num_children):
                column.frombytes(bytes(4 * more))
            for wide in (self.t_stored_ns, self.born):
                wide.frombytes(bytes(8 * more))
            self.on.extend(bytes(more))

    def _medium(self, name: str) -> int:
        if name not in self.mediums and len(self.mediums) < MAX_MEDIUMS:
            self.mediums.append(name)
            self._totals.append(0)
        return self.mediums.index(name) if name in self.mediums else MAX_MEDIUMS - 1

    def _count(self, block: int, by: int) -> None:
        """One more of the block, or one less: it comes with the first and goes with the last."""
        before = self.copies[block]
        if before + by < 0 or (before == 0 and by > 0 and not self.born[block]):
            return
        self.copies[block] = before + by
        self._totals[self.on[block]] += by
        self.stored += by > 0
        self.removed += by < 0
        if before == 0:
            self.num_distinct += 1
            self._behind(self.parent(block), 1)
        elif before + by == 0:
            self.num_distinct -= 1
            self._behind(self.parent(block), -1)
            self.forks.discard(block)

    def _behind(self, parent: int, by: int) -> None:
        if parent >= 0:
            self.num_children[parent] += by
            if self.num_children[parent] > 1:
                self.forks.add(parent)
            else:
                self.forks.discard(parent)

    def freeze(self) -> HashedBlocksFrame:
        return HashedBlocksFrame(
            self.begun,
            self.whole,
            self.batch,
            self.stored,
            self.removed,
            self.strangers,
            pack(self.copies),
            pack(self.parents),
            pack(self.tokens),
            pack(self.t_stored_ns),
            pack(self.born),
            bytes(self.on),
            list(self.mediums),
            self._births,
        )

    def thaw(self, frame: HashedBlocksFrame) -> None:
        """Raises: ValueError when the columns do not fit each other."""
        narrow = [unpack(c, "i") for c in (frame.copies, frame.parents, frame.tokens)]
        wide = [unpack(c, "q") for c in (frame.t_stored_ns, frame.born)]
        num_numbers = len(frame.on)
        if num_numbers > MAX_BLOCKS or any(len(c) != num_numbers for c in (*narrow, *wide)):
            raise ValueError("block columns of different lengths")
        if max(frame.on, default=-1) >= min(len(frame.mediums), MAX_MEDIUMS):
            raise ValueError("a block on a medium that does not exist")
        if any(parent >= num_numbers or parent < UNTOLD for parent in narrow[1]):
            raise ValueError("a block behind one that does not exist")
        self._forget()
        self.begun, self.whole, self.batch = frame.begun, frame.whole, frame.batch
        self.stored, self.removed, self.strangers = frame.stored, frame.removed, frame.strangers
        self.copies, self.parents, self.tokens = narrow
        self.t_stored_ns, self.born = wide
        self.on, self.mediums, self._births = bytearray(frame.on), frame.mediums, frame.births
        self._derive()

    def _derive(self) -> None:
        self.version += 1
        self.num_children = array("i", bytes(4 * self.num_numbers))
        self._totals = [0] * len(self.mediums)
        for block, copies in enumerate(self.copies):
            if copies > 0:
                self.num_distinct += 1
                self._totals[self.on[block]] += copies
                self._behind(self.parent(block), 1)
