"""The prefix cache of another server, block by block, as far as its KV events tell."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from profiler.block_events import UNTOLD, BlockDelta, BlockMapBegin, BlockRun
from profiler.folds.packing import pack, unpack
from profiler.folds.rankfacts import RankFacts

MAX_BLOCKS: Final = 1 << 20
MAX_RANKS: Final = 64
MAX_PLACES: Final = 64
# More hashes than a message can hold.
_MAX_STRANGERS: Final = 1 << 24


class HashedBlocksFrame(msgspec.Struct, array_like=True):
    """The first six are rank 0's, and `others` of the ranks beside it."""

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
    ranks_on: list[int] = []
    others: dict[int, RankFacts] = {}


class HashedBlocks:
    """One entry per number of ours in each of `copies` (0: no block has the number now), `parents`
    (see BlockRun), `tokens`, `t_stored_ns` (0 where it was not told) and `on`, an index into
    `places`: a rank, and a medium. `num_children` are the blocks that stand right behind it.

    Every block in here is in the server's cache. That these are all holds only while `whole`.

    `version` counts the changes of this very object: of another one, draw everything.
    """

    def __init__(self) -> None:
        self.version = 0
        self.ranks: dict[int, RankFacts] = {}
        self._forget()

    def _forget(self) -> None:
        self.copies: array[int] = array("i")
        self.parents: array[int] = array("i")
        self.tokens: array[int] = array("i")
        self.t_stored_ns: array[int] = array("q")
        self.born: array[int] = array("q")
        self.on = bytearray()
        self.places: list[tuple[int, str]] = []
        self.num_children: array[int] = array("i")
        self.forks: set[int] = set()
        self._births = 0
        self._totals: list[int] = []
        self.num_distinct = 0

    @property
    def num_numbers(self) -> int:
        """Numbers that a block has, or had."""
        return len(self.copies)

    @property
    def begun(self) -> BlockMapBegin | None:
        """The newest beginning of any rank, None before the first."""
        told = (facts.begun for facts in self.ranks.values() if facts.begun is not None)
        return max(told, key=lambda begun: begun.t_ns, default=None)

    @property
    def whole(self) -> bool:
        return bool(self.ranks) and all(facts.whole for facts in self.ranks.values())

    @property
    def stored(self) -> int:
        return sum(facts.stored for facts in self.ranks.values())

    @property
    def removed(self) -> int:
        return sum(facts.removed for facts in self.ranks.values())

    @property
    def strangers(self) -> int:
        return sum(facts.strangers for facts in self.ranks.values())

    @property
    def mediums(self) -> list[str]:
        return list(dict.fromkeys(medium for _, medium in self.places))

    def rank(self, block: int) -> int:
        return self.places[self.on[block]][0]

    def num_blocks(self, medium: str | None = None, rank: int | None = None) -> int:
        """Blocks in the server's cache, copies of one another counted each."""
        totals = zip(self.places, self._totals, strict=True)
        return sum(
            total for (of, name), total in totals if medium in (None, name) and rank in (None, of)
        )

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
        if self._knows(event.rank):
            self._drop(event.rank)
            self.ranks[event.rank] = RankFacts(event, event.whole)
            self.version += 1

    def delta(self, event: BlockDelta) -> None:
        """Operations that this version does not know and blocks that cannot be are passed over."""
        if not self._knows(event.rank):
            return
        self.version += 1
        facts = self.ranks[event.rank]
        facts.batch = event.batch
        facts.strangers += min(max(0, event.strangers), _MAX_STRANGERS)
        if event.cleared:
            facts.removed += self.num_blocks(rank=event.rank)
            self._drop(event.rank)
            facts.whole = True
        for run in event.runs:
            if run.block >= 0 and 0 < run.count <= MAX_BLOCKS - run.block:
                self._run(run, event.rank, 0 if event.late else event.t_ns)

    def _knows(self, rank: int) -> bool:
        """Whether there is room for this rank; there is from now on."""
        if rank not in self.ranks and len(self.ranks) < MAX_RANKS:
            self.ranks[rank] = RankFacts()
        return rank in self.ranks

    def _drop(self, rank: int) -> None:
        """No block is this rank's any more."""
        if self.num_blocks() == self.num_blocks(rank=rank):
            self._forget()
            return
        mine = {at for at, (of, _) in enumerate(self.places) if of == rank}
        for block, copies in enumerate(self.copies):
            if copies and self.on[block] in mine:
                self._shift(block, -copies)

    def _run(self, run: BlockRun, rank: int, t_ns: int) -> None:
        blocks = range(run.block, run.block + run.count)
        if run.op == "store":
            self._store(run, blocks, rank, t_ns)
        elif blocks.stop > self.num_numbers:
            return
        elif run.op == "copy":
            for block in blocks:
                self._count(block, 1)
        elif run.op in ("drop", "remove"):
            for block in blocks:
                self._count(block, -1)

    def _store(self, run: BlockRun, blocks: range, rank: int, t_ns: int) -> None:
        self._resize(blocks.stop)
        on = self._place(rank, run.medium)
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

    def _place(self, rank: int, medium: str) -> int:
        place = (rank, medium)
        if place not in self.places and len(self.places) < MAX_PLACES:
            self.places.append(place)
            self._totals.append(0)
        return self.places.index(place) if place in self.places else MAX_PLACES - 1

    def _count(self, block: int, by: int) -> None:
        """One more of the block, or one less, as its rank has told."""
        before = self.copies[block]
        if before + by < 0 or (before == 0 and by > 0 and not self.born[block]):
            return
        facts = self.ranks[self.rank(block)]
        facts.stored += by > 0
        facts.removed += by < 0
        self._shift(block, by)

    def _shift(self, block: int, by: int) -> None:
        """It comes with the first of it and goes with the last."""
        before = self.copies[block]
        self.copies[block] = before + by
        self._totals[self.on[block]] += by
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
        first = self.ranks.get(0, RankFacts())
        return HashedBlocksFrame(
            first.begun,
            first.whole,
            first.batch,
            first.stored,
            first.removed,
            first.strangers,
            pack(self.copies),
            pack(self.parents),
            pack(self.tokens),
            pack(self.t_stored_ns),
            pack(self.born),
            bytes(self.on),
            [medium for _, medium in self.places],
            self._births,
            [rank for rank, _ in self.places],
            {rank: msgspec.structs.replace(f) for rank, f in self.ranks.items() if rank},
        )

    def thaw(self, frame: HashedBlocksFrame) -> None:
        """Raises: ValueError when the columns do not fit each other."""
        narrow = [unpack(c, "i") for c in (frame.copies, frame.parents, frame.tokens)]
        wide = [unpack(c, "q") for c in (frame.t_stored_ns, frame.born)]
        num_numbers = len(frame.on)
        if num_numbers > MAX_BLOCKS or any(len(c) != num_numbers for c in (*narrow, *wide)):
            raise ValueError("block columns of different lengths")
        if max(frame.on, default=-1) >= min(len(frame.mediums), MAX_PLACES):
            raise ValueError("a block on a medium that does not exist")
        if any(parent >= num_numbers or parent < UNTOLD for parent in narrow[1]):
            raise ValueError("a block behind one that does not exist")
        self._forget()
        self._thaw_ranks(frame)
        self.copies, self.parents, self.tokens = narrow
        self.t_stored_ns, self.born = wide
        self.on, self._births = bytearray(frame.on), frame.births
        self._derive()

    def _thaw_ranks(self, frame: HashedBlocksFrame) -> None:
        """Recordings of before have no ranks: all was rank 0."""
        ranks_on = frame.ranks_on or [0] * len(frame.mediums)
        self.places = list(zip(ranks_on, frame.mediums, strict=True))
        first = RankFacts(
            frame.begun, frame.whole, frame.batch, frame.stored, frame.removed, frame.strangers
        )
        known = frame.begun is not None or 0 in ranks_on
        self.ranks = ({0: first} if known else {}) | {
            rank: msgspec.structs.replace(facts) for rank, facts in frame.others.items()
        }
        if not self.ranks.keys() >= set(ranks_on):
            raise ValueError("a block of a rank that nobody has told of")

    def _derive(self) -> None:
        self.version += 1
        self.num_children = array("i", bytes(4 * self.num_numbers))
        self._totals = [0] * len(self.places)
        for block, copies in enumerate(self.copies):
            if copies > 0:
                self.num_distinct += 1
                self._totals[self.on[block]] += copies
                self._behind(self.parent(block), 1)
