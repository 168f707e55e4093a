"""What happens to the pages of the KV cache."""

from __future__ import annotations

import msgspec

from profiler.event import Event


class PageRun(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`count` pages from `page` on changed alike. `op` is one of

    alloc    a free page now belongs to `request`, with one reference
    share    `request` took one more reference to a sealed page
    seal     the page is full, immutable and can be found by its prefix hash
    release  `request` gave one reference back; at zero a sealed page is cached, another is free
    evict    a cached page (no reference) lost its prefix hash and is free
    """

    op: str
    page: int
    count: int
    request: int


class PageDelta(Event, frozen=True, gc=False):
    runs: tuple[PageRun, ...]


class PageSpan(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`count` pages from `page` on in one state. `owner` is the request that allocated them."""

    page: int
    count: int
    owner: int
    refs: int
    sealed: bool


class PageKeyframe(Event, frozen=True, gc=False):
    """Every page that is not free, so that a reader who lost deltas is right again."""

    spans: tuple[PageSpan, ...]
