"""Whatever is lost on the way: what the map shows is in the server's cache, and it says whether
that is all."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.block_events import BlockDelta, BlockMapBegin, BlockRun
from profiler.events import AnyEvent, decode_event, encode_event
from profiler.folds.hashedblocks import HashedBlocks, HashedBlocksFrame
from profiler.folds.hashedprefixes import shared_prefixes
from profiler.foreign.kvblocks import KvBlocks
from profiler.foreign.kvstream import KvStream, Numbered
from profiler.state import SessionState

S = 1_000_000_000
TOKENS = 16
few = settings(max_examples=60, deadline=None)


class Server:
    """vLLM's prefix cache and its publisher in small: prompts, copies, evictions, a buffer."""

    def __init__(self, seed: int, buffer: int = 10_000) -> None:
        self.random = random.Random(seed)
        self.cache: Counter[bytes] = Counter()
        self.parents: dict[bytes, bytes | None] = {}
        self.buffer: list[Numbered] = []
        self.size = buffer
        self.ts = float(seed)
        self.seq = 0

    def step(self) -> Numbered:
        kind = self.random.choices(["store", "evict", "clear"], [8, 4, 0.3])[0]
        events = getattr(self, kind)()
        self.ts += 1.0
        batch = Numbered(self.seq, msgspec.msgpack.encode([self.ts, events, 0]))
        self.seq += 1
        self.buffer = [*self.buffer, batch][-self.size :]
        return batch

    def store(self) -> list[Any]:
        parent: bytes | None = None
        while self.random.random() < 0.7 and (behind := self.behind(parent)):
            parent = self.random.choice(behind)
        new = [self.random.randbytes(8) for _ in range(self.random.randint(1, 5))]
        if parent is not None and self.random.random() < 0.2:
            new[:0], parent = [parent], self.parents[parent]
        self.cache.update(new)
        for before, found in zip([parent, *new], new, strict=False):
            self.parents.setdefault(found, before)
        return [["BlockStored", new, parent, [0] * TOKENS * len(new), TOKENS, None, "GPU"]]

    def behind(self, parent: bytes | None) -> list[bytes]:
        return [found for found in self.cache if self.parents[found] == parent]

    def evict(self) -> list[Any]:
        gone = self.random.sample(sorted(self.cache), min(2, len(self.cache)))
        self.cache -= Counter(gone)
        return [{"type": "BlockRemoved", "block_hashes": [found]} | MEDIUM for found in gone]

    def clear(self) -> list[Any]:
        self.cache.clear()
        return [["AllBlocksCleared"]]

    def ask(self, since: int) -> list[Numbered] | None:
        return [batch for batch in self.buffer if batch.seq >= since]


MEDIUM = {"medium": "GPU"}


class Viewer:
    def __init__(self, stream: KvStream) -> None:
        self.stream = stream
        self.state = SessionState()
        self.events: list[AnyEvent] = []
        self.t_ns = S

    def see(self, events: list[Any]) -> None:
        for event in events:
            self.events.append(event)
            self.state.apply(event)

    def begin(self) -> None:
        self.see(self.stream.begin(self.t_ns))

    def take(self, batch: Numbered) -> None:
        self.t_ns += S // 10
        self.see(self.stream.take(batch, self.t_ns))


def check(viewer: Viewer, server: Server) -> None:
    blocks = viewer.state.blocks
    known = viewer.stream._blocks._known
    seen = {found: blocks.copies[n] for scope in known.values() for found, n in scope.items()}
    assert blocks.num_blocks() == sum(seen.values()) and blocks.num_distinct == len(seen)
    assert all(0 < count <= server.cache[found] for found, count in seen.items())
    if blocks.whole:
        assert seen == {found: count for found, count in server.cache.items() if count}
    numbers = {n: found for scope in known.values() for found, n in scope.items()}
    for number, found in numbers.items():
        parent = blocks.parent(number)
        if parent >= 0:
            assert numbers[parent] == server.parents[found]
        elif parent == -1:
            assert server.parents[found] is None


def same_as_replayed(viewer: Viewer) -> None:
    whole = SessionState()
    for event in viewer.events:
        whole.apply(decode_event(encode_event(event)))
    assert whole.keyframe() == viewer.state.keyframe()
    copy = SessionState.restore(whole.keyframe())
    assert copy.keyframe() == whole.keyframe()
    for name in ("num_distinct", "places", "forks", "_totals", "ranks"):
        assert getattr(copy.blocks, name) == getattr(viewer.state.blocks, name)
    assert shared_prefixes(copy.blocks) == shared_prefixes(viewer.state.blocks)


@few
@given(
    seed=st.integers(0, 10**6),
    replay=st.booleans(),
    buffer=st.sampled_from([5, 10_000]),
    loss=st.sampled_from([0.0, 0.1]),
    before=st.integers(0, 30),
)
def test_every_block_that_is_shown_is_there(
    seed: int, replay: bool, buffer: int, loss: float, before: int
) -> None:
    server, chance = Server(seed, buffer), random.Random(seed)
    for _ in range(before):
        server.step()
    viewer = Viewer(KvStream(server.ask if replay else lambda since: None))
    viewer.begin()
    for _ in range(80):
        batch = server.step()
        if chance.random() >= loss:
            viewer.take(batch)
            check(viewer, server)
    same_as_replayed(viewer)
    lossless = loss == 0 or (replay and buffer == 10_000)
    started = replay and before <= buffer
    if lossless and started:
        viewer.take(server.step())
        assert viewer.state.blocks.whole
        assert [e.reason for e in viewer.events if isinstance(e, BlockMapBegin)] == ["attached"]


def test_a_batch_that_was_sent_again_changes_nothing() -> None:
    server = Server(1)
    viewer = Viewer(KvStream(server.ask))
    batches = [server.step() for _ in range(9)]
    viewer.begin()
    before = viewer.state.blocks.version
    for batch in batches:
        viewer.take(batch)
    assert viewer.state.blocks.version == before
    check(viewer, server)


@pytest.mark.parametrize("replay", [False, True])
def test_a_server_that_began_anew_is_another(replay: bool) -> None:
    old, new = Server(1), Server(2)
    server = old
    viewer = Viewer(KvStream(lambda since: server.ask(since) if replay else None))
    viewer.begin()
    for _ in range(20):
        viewer.take(old.step())
    server = new
    for _ in range(8):
        viewer.take(new.step())
        check(viewer, new)
    assert [e.reason for e in viewer.events if isinstance(e, BlockMapBegin)][1:] == ["restarted"]
    assert viewer.state.blocks.whole


def test_a_gap_is_not_filled_with_another_servers_batches() -> None:
    """A forwarder between both hides the restart: only the time in the batch tells."""
    old, new = Server(1), Server(2)
    viewer = Viewer(KvStream(lambda since: new.ask(since)))
    for _ in range(5):
        viewer.take(old.step())
    for _ in range(30):
        batch = new.step()
    viewer.take(batch)
    check(viewer, new)
    begun = viewer.state.blocks.begun
    assert begun is not None and (begun.reason, begun.num_lost, begun.whole) == ("lost", 24, True)


def test_a_batch_that_cannot_be_read_begins_the_map_anew() -> None:
    server = Server(3)
    viewer = Viewer(KvStream(lambda since: None))
    viewer.begin()
    for _ in range(10):
        viewer.take(server.step())
    viewer.take(Numbered(server.seq, b"\xc1"))
    blocks = viewer.state.blocks
    assert blocks.begun is not None and blocks.begun.reason == "unreadable"
    assert blocks.num_blocks() == 0 and not blocks.whole


def test_what_a_full_line_dropped_is_asked_for_again() -> None:
    server = Server(4)
    for _ in range(50):
        server.step()
    asked: list[int] = []

    def ask(since: int) -> list[Numbered]:
        asked.append(since)
        return server.ask(since)[:10] + server.ask(since)[20:]

    viewer = Viewer(KvStream(ask))
    viewer.begin()
    check(viewer, server)
    assert asked == [0, 10] and viewer.state.blocks.whole


def test_a_lost_connection_leaves_nothing_on_the_map() -> None:
    server = Server(5)
    viewer = Viewer(KvStream(server.ask))
    viewer.begin()
    viewer.take(server.step())
    viewer.see(viewer.stream.broke(viewer.t_ns))
    assert viewer.state.blocks.num_blocks() == 0 and not viewer.state.blocks.whole
    server.step()
    viewer.begin()
    check(viewer, server)
    assert viewer.state.blocks.whole


class Ranks:
    """A server of `count` data-parallel ranks, and one viewer of all of them."""

    def __init__(self, seed: int, count: int) -> None:
        self.blocks = KvBlocks()
        self.servers = [Server(seed + rank) for rank in range(count)]
        self.streams = [
            KvStream(server.ask, rank, self.blocks) for rank, server in enumerate(self.servers)
        ]
        self.viewer = Viewer(self.streams[0])

    def step(self, rank: int, how: str) -> None:
        viewer, stream = self.viewer, self.streams[rank]
        viewer.t_ns += 10**8
        if how == "broke":
            viewer.see(stream.broke(viewer.t_ns))
        elif how == "begin":
            viewer.see(stream.begin(viewer.t_ns))
        else:
            viewer.see(stream.take(self.servers[rank].step(), viewer.t_ns))

    def check(self) -> None:
        blocks = self.viewer.state.blocks
        for rank, server in enumerate(self.servers):
            known = {
                found: number
                for (of, _), scope in self.blocks._known.items()
                if of == rank
                for found, number in scope.items()
            }
            assert all(blocks.rank(number) == rank for number in known.values())
            seen = {found: blocks.copies[number] for found, number in known.items()}
            assert blocks.num_blocks(rank=rank) == sum(seen.values())
            assert all(0 < count <= server.cache[found] for found, count in seen.items())
            if rank in blocks.ranks and blocks.ranks[rank].whole:
                assert seen == {found: n for found, n in server.cache.items() if n}
        assert blocks.num_blocks() == sum(blocks.copies)
        assert blocks.num_distinct == sum(copies > 0 for copies in blocks.copies)


@few
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["batch"] * 4 + ["begin", "broke"]),
        ),
        max_size=40,
    ),
)
def test_every_block_is_its_rank_s_and_there(seed: int, steps: list[tuple[int, str]]) -> None:
    ranks = Ranks(seed, 3)
    for rank in random.Random(seed).sample(range(3), 3):
        ranks.step(rank, "begin")
    for rank, how in steps:
        ranks.step(rank, how)
        ranks.check()
    same_as_replayed(ranks.viewer)


def test_all_is_known_only_where_all_ranks_are() -> None:
    ranks = Ranks(1, 2)
    for rank in (0, 1):
        ranks.step(rank, "begin")
    blocks = ranks.viewer.state.blocks
    assert blocks.whole
    ranks.step(1, "broke")
    assert not blocks.whole and blocks.ranks[0].whole
    ranks.step(1, "begin")
    assert blocks.whole


def test_one_rank_that_throws_all_away_leaves_the_others() -> None:
    blocks = HashedBlocks()
    for rank in (0, 1):
        blocks.begin(BlockMapBegin(1, "attached", True, rank=rank))
        runs = (BlockRun("store", 4 * rank, 3, -1, 16, "GPU"),)
        blocks.delta(BlockDelta(2, 0, runs, rank=rank))
    blocks.delta(BlockDelta(3, 1, (), cleared=True, rank=1))
    assert [blocks.num_blocks(rank=rank) for rank in (0, 1)] == [3, 0]
    assert (blocks.stored, blocks.removed) == (6, 3)
    assert list(blocks.chain(2)) == [2, 1, 0], "numbers of the other rank may come again"


def test_a_frame_of_before_is_rank_0_s() -> None:
    blocks = HashedBlocks()
    blocks.begin(BlockMapBegin(1, "attached", True))
    blocks.delta(BlockDelta(2, 0, (BlockRun("store", 0, 2, -1, 16, "GPU"),)))
    document = msgspec.json.decode(msgspec.json.encode(blocks.freeze()))[:-2]
    again = HashedBlocks()
    again.thaw(msgspec.json.decode(msgspec.json.encode(document), type=HashedBlocksFrame))
    assert again.freeze() == blocks.freeze() and again.places == [(0, "GPU")]
