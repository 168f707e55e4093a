"""What is told of one data-parallel rank's prefix cache, as a whole."""

from __future__ import annotations

import msgspec

from profiler.block_events import BlockMapBegin


class RankFacts(msgspec.Struct, array_like=True):
    """`stored` and `removed` count since `begun`; `strangers` of the blocks that went were none of
    these. `batch` is the newest one's number, None before the first. That all its blocks are known
    holds only while `whole`."""

    begun: BlockMapBegin | None = None
    whole: bool = False
    batch: int | None = None
    stored: int = 0
    removed: int = 0
    strangers: int = 0
