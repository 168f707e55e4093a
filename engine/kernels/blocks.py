"""Sizes of blocks, on the host.

Triton's own cdiv and next_power_of_2 take 2 to 6 us a call, each a tenth of a launch.
"""

from __future__ import annotations


def power_of_two(n: int) -> int:
    """The least power of two that holds n >= 1."""
    return 1 << (n - 1).bit_length()


def ceil_div(n: int, size: int) -> int:
    """How many blocks of `size` hold n."""
    return -(-n // size)
