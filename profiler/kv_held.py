"""What pages of the KV cache take, packed ones and wide ones."""

from __future__ import annotations

from typing import NamedTuple

from profiler.events import KvPacking, SessionStart
from profiler.folds.pages import Pages


class KvHeld(NamedTuple):
    """Of all pages that are not free: the bytes that they take, what they would take in the
    engine's own dtype, and the K and V elements that they have room for."""

    held_bytes: int
    unpacked_bytes: int
    elements: int

    @property
    def bits(self) -> float:
        """Effective bits an element: scales and wide pages included."""
        return 8 * self.held_bytes / self.elements

    @property
    def saved_bytes(self) -> int:
        """Below 0 where wide pages take more than packing saves."""
        return self.unpacked_bytes - self.held_bytes


def bytes_of(session: SessionStart, num_pages: int, num_wide: int) -> int:
    """Of so many pages, of which `num_wide` have a wide page beside their own place."""
    packing = session.packing
    wide_bytes = num_wide * packing.wide_page_bytes if packing else 0
    return num_pages * session.page_bytes + wide_bytes


def kv_held(session: SessionStart, pages: Pages) -> KvHeld | None:
    """None where pages are not packed, or all of them are free."""
    packing, num_pages = session.packing, pages.held_pages
    if packing is None or not num_pages:
        return None
    return KvHeld(
        bytes_of(session, num_pages, pages.forms.wide),
        num_pages * packing.wide_page_bytes,
        num_pages * packing.page_elements,
    )


def packed_bits(session: SessionStart, packing: KvPacking) -> float:
    """Bits an element of a packed page, its scales included."""
    return 8 * session.page_bytes / packing.page_elements
