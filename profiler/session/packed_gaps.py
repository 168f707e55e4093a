"""The gaps between a request's tokens as the table `itl` keeps them: u32 microseconds each,
little-endian."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

_MAX_U32 = (1 << 32) - 1


def pack_gaps(gaps_ns: Iterable[int]) -> bytes:
    """Whole microseconds; one of 71 minutes or more counts as 71 minutes."""
    return _swapped(array("I", (min(gap_ns // 1000, _MAX_U32) for gap_ns in gaps_ns))).tobytes()


def gaps_us(packed: bytes) -> array[int]:
    """Raises: ValueError when `packed` is cut short."""
    return _swapped(array("I", packed))


def _swapped(gaps: array[int]) -> array[int]:
    if sys.byteorder == "big":
        gaps.byteswap()
    return gaps
