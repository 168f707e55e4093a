"""Random numbers that depend on a request's seed and the token's place, and on nothing else."""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 52 random bits, so that 1 - 2**-52 is the largest.

    A hash of its two arguments: whatever else is in the batch, and however often a token is
    computed again, it gets the same number. Source: the mixing function of SplitMix64 (Steele,
    Lea, Flood: Fast splittable pseudorandom number generators, 2014), once for each argument.
    """
    mixed = _mix((_mix(seed & _MASK) + (position + 1) * _GOLDEN) & _MASK)
    return (mixed >> 12) * 2.0**-52


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
