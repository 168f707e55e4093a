"""Which blocks another server keeps in its prefix cache, as its KV events tell.

Such a block is full, and can be found by the hash of its tokens and of all before them. Neither
hash nor tokens are in an event: blocks have numbers of ours, the lowest that is free, and these are
not the server's slots.
"""

from __future__ import annotations

from typing import Final

import msgspec

from profiler.event import Event

FIRST: Final = -1
UNTOLD: Final = -2


class BlockRun(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`count` blocks from number `block` on changed alike. `op` is one of

    store   new in the cache, each behind the one before it and the first of them behind `parent`:
            a number, FIRST where a prompt begins, UNTOLD where it is no block that we know;
            each holds `tokens` tokens, on `medium` ("GPU", ...; "" where it is not told)
    copy    one more block with the same tokens, which the server keeps beside the first
    drop    one of the copies is gone
    remove  the last of them is gone, and the number is free again
    """

    op: str
    block: int
    count: int
    parent: int = UNTOLD
    tokens: int = 0
    medium: str = ""


class BlockMapBegin(Event, frozen=True, gc=False):
    """The map of one data-parallel rank begins anew, empty. `whole` says that so was its cache;
    else nobody knows what it holds from before.

    `reason` is "connecting", "attached", "disconnected", "restarted" (the server began anew),
    "lost" (`num_lost` batches did not come) or "unreadable" (a batch could not be read).
    """

    reason: str
    whole: bool
    num_lost: int = 0
    rank: int = 0


class BlockDelta(Event, frozen=True, gc=False):
    """What changed in batch number `batch` of a rank, whose blocks alone it is about. `strangers`
    blocks of it are gone that we did not know, or were left out since there are too many. `late` is
    a batch out of the server's memory, which it sent when asked: when its blocks were stored is not
    known. `cleared` is told before the runs: the rank threw all its blocks away."""

    batch: int
    runs: tuple[BlockRun, ...]
    strangers: int = 0
    late: bool = False
    cleared: bool = False
    rank: int = 0
