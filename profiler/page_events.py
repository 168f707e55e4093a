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

    and where full pages are packed

    widen    `request` writes to the page, which lies in a wide page meanwhile
    keep     the same of one of a sequence's first pages, which keeps its wide page until it is free
    pack     the page is full and packed; its wide page is free
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


class PageForm(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`count` pages from `page` on in one form: "hot" (being written, in a wide page), "sink" (kept
    in a wide page) or "packed"."""

    page: int
    count: int
    form: str


class PageKeyframe(Event, frozen=True, gc=False):
    """Every page that is not free, so that a reader who lost deltas is right again; `forms` of
    those that have one, in a session whose pages are packed."""

    spans: tuple[PageSpan, ...]
    forms: tuple[PageForm, ...] = ()


class LayerFormat(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How K and V of one layer lie in a packed page: names as int4 or fp8, or the engine's own
    dtype where they are not packed, and bits an element without scales."""

    key: str
    value: str
    key_bits: int
    value_bits: int


class KvPacking(msgspec.Struct, frozen=True, gc=False):
    """How pages are packed. `name` is that of --kv-cache-dtype, or "mixed" by a file's layers.

    A page is written wide, in the engine's own `dtype`, and packed when it is full, but for the
    first `num_sinks` of a sequence. `wide_page_bytes` is what it takes meanwhile beside its packed
    place, and what it would take if nothing was packed; `page_elements` are its K and V in all
    layers. There are `num_wide_pages`.
    """

    name: str
    dtype: str
    layers: tuple[LayerFormat, ...]
    page_elements: int
    wide_page_bytes: int
    num_wide_pages: int
    num_sinks: int
