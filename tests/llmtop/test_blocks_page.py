"""The KV tab of a server whose KV events are heard: its prefix cache, and what is not known."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from profiler.events import AnyEvent, BlockDelta, BlockMapBegin, BlockRun, MetricsSample
from profiler.foreign.snapshot import CachedBlocks, foreign_snapshot
from profiler.state import SessionState

S = 1_000_000_000
SIZES = [(120, 40), (80, 24)]


def state_of(*events: Callable[[int], AnyEvent], usage: float = 0.02) -> SessionState:
    """A vLLM of 101 blocks, and what its KV events told 5 s ago."""
    now = time.monotonic_ns()
    state = SessionState()
    for event in events:
        state.apply(event(now - 5 * S))
    gauges = {"kv_usage": usage, "kv_blocks": 101.0}
    state.apply(MetricsSample(now, "vLLM", "qwen", gauges, {}, {}))
    return state


def begin(reason: str, whole: bool = False, rank: int = 0) -> Callable[[int], AnyEvent]:
    return lambda t_ns: BlockMapBegin(t_ns + rank, reason, whole, rank=rank)


def delta(*runs: BlockRun, strangers: int = 0) -> Callable[[int], AnyEvent]:
    return lambda t_ns: BlockDelta(t_ns, 0, runs, strangers)


FORKED = (
    BlockRun("store", 0, 4, -1, 16, "GPU"),
    BlockRun("store", 4, 3, 1, 16, "GPU"),
    BlockRun("store", 7, 1, -2, 16, "GPU"),
    BlockRun("copy", 6, 2),
)


async def shown(state: SessionState, size: tuple[int, int], source_of: Any, text_of: Any) -> str:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=size) as pilot:
        await pilot.press("3")
        await pilot.press(*["right"] * 5)
        await pilot.pause()
        return text_of(app)


@pytest.mark.parametrize("size", SIZES)
async def test_the_cache_block_by_block(size: Any, source_of: Any, text_of: Any) -> None:
    text = await shown(state_of(begin("attached", True), delta(*FORKED)), size, source_of, text_of)
    assert "10, all of the cache" in text
    assert "0 ██▒▒▒▒22" in text, "the fork, its two ways, and a copy each of the last two"
    assert "hashed   10 blocks of 100, 10%" in text
    assert "distinct 8, 2 copies" in text
    assert "in use   2 blocks, 2% by requests" in text and "idle     8 or more" in text
    assert "tokens 48 to 63 of its prompt" in text, "block 5: behind two shared ones and block 4"
    assert "stored 5.0s ago" in text and "goes on 1 way" in text
    (prefix,) = [line for line in text.splitlines() if "32 " in line and " 2      2" in line]
    assert prefix.rstrip("│ ").endswith(" 0")


@pytest.mark.parametrize("size", SIZES)
async def test_ranks_are_told_apart(size: Any, source_of: Any, text_of: Any) -> None:
    events = [
        begin("attached", True),
        begin("attached", rank=1),
        delta(BlockRun("store", 0, 3, -1, 16, "GPU")),
        lambda t_ns: BlockDelta(t_ns, 0, (BlockRun("store", 3, 4, -1, 16, "GPU"),), rank=1),
    ]
    text = await shown(state_of(*events), size, source_of, text_of)
    assert "7, older ones are not known" in text
    assert "hashed   7 blocks of 99, 7%" in text, "each rank has a block that stands for none"
    assert "by rank  0: 3, 1: 4+" in text and "+ older ones are not known" in text
    assert "block 5 of rank 1" in text


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([begin("connecting")], "no connection to the server's KV events yet"),
        ([begin("connecting"), begin("disconnected")], "is lost"),
        (
            [
                begin("attached"),
                begin("disconnected", rank=1),
            ],
            "rank 1: the connection to the server's KV events is lost",
        ),
        ([begin("attached", True)], "the prefix cache is empty"),
        ([begin("attached")], "no block was stored since this looks"),
    ],
)
@pytest.mark.parametrize("size", SIZES)
async def test_why_there_is_nothing(
    size: Any, events: Any, words: str, source_of: Any, text_of: Any
) -> None:
    text = await shown(state_of(*events), size, source_of, text_of)
    assert words in " ".join(text.split())


async def test_what_was_stored_before_is_not_known(source_of: Any, text_of: Any) -> None:
    seen = delta(BlockRun("store", 0, 3, -2, 16, "GPU"), strangers=4)
    text = await shown(state_of(begin("attached"), seen), (120, 40), source_of, text_of)
    assert "3, older ones are not known" in text and "0 ???" not in text
    assert "and 4 from before" in text
    assert "no two prompts in the cache part" in text


async def test_no_events_no_map(source_of: Any, text_of: Any) -> None:
    text = await shown(state_of(), (120, 40), source_of, text_of)
    assert "--kv-events-config" in text and "Hashed blocks" not in text


def test_scripts_are_told_the_same() -> None:
    unheard, heard = state_of(), state_of(begin("attached", True), delta(*FORKED))
    assert foreign_snapshot(unheard, unheard.foreign).cached_blocks is None
    told = foreign_snapshot(heard, heard.foreign)
    assert told.cached_blocks == CachedBlocks(10, 8, True)
