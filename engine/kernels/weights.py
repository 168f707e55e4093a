"""What sampling kernels know of one token: how far below the likeliest it is, and its weight.

A distance is the bits of a float32 that is not negative, which order as integers. Weights are
integers too, in units of 2**-40 of the largest, so their sums do not depend on the order of adding:
a row's token depends on that row alone.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

UNIT_BITS = tl.constexpr(40)  # 2**40 * 2**22 tokens fit 63 bits
INFINITE_KEY = tl.constexpr(0x7F800000)
NO_KEY = tl.constexpr(0x7FFFFFFF)
LOG2E = tl.constexpr(math.log2(math.e))
# ln(2)**n / n!: 2**f for f in [-0.5, 0.5] to 5e-9.
C1 = tl.constexpr(math.log(2))
C2 = tl.constexpr(math.log(2) ** 2 / 2)
C3 = tl.constexpr(math.log(2) ** 3 / 6)
C4 = tl.constexpr(math.log(2) ** 4 / 24)
C5 = tl.constexpr(math.log(2) ** 5 / 120)
C6 = tl.constexpr(math.log(2) ** 6 / 720)
C7 = tl.constexpr(math.log(2) ** 7 / 5040)
MIX_A = tl.constexpr(0xBF58476D1CE4E5B9)
MIX_B = tl.constexpr(0x94D049BB133111EB)
GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)


@triton.jit
def _mixed(value):
    value = (value ^ (value >> 30)) * MIX_A
    value = (value ^ (value >> 27)) * MIX_B
    return value ^ (value >> 31)


@triton.jit
def uniform_of(seed, position):
    """engine/random_numbers.py's, bit for bit; float64."""
    mixed = _mixed(_mixed(seed.to(tl.uint64)) + (position + 1).to(tl.uint64) * GOLDEN)
    return (mixed >> 12).to(tl.float64) * 2.0**-52


@triton.jit
def key_of(values, inverse_temperature, largest):
    """How far each logit is below the largest, which is scaled already."""
    return (largest - values * inverse_temperature).to(tl.int32, bitcast=True)


@triton.jit
def load_keys(logits, start, inverse_temperature, largest, V, BLOCK: tl.constexpr):
    """Those of BLOCK tokens from `start`; NO_KEY beyond the vocabulary."""
    tokens = start + tl.arange(0, BLOCK)
    values = tl.load(logits + tokens, mask=tokens < V, other=0.0).to(tl.float32)
    return tl.where(tokens < V, key_of(values, inverse_temperature, largest), NO_KEY)


@triton.jit
def weights_of(keys, last_key):
    """exp(-distance) in units of 2**-40, int64; 0 for what lies beyond `last_key`."""
    t = tl.maximum(tl.minimum(keys, INFINITE_KEY).to(tl.float32, bitcast=True) * -LOG2E, -64.0)
    n = tl.floor(t + 0.5)
    f = t - n
    power = ((((((C7 * f + C6) * f + C5) * f + C4) * f + C3) * f + C2) * f + C1) * f + 1.0
    scale = ((n.to(tl.int32) + (UNIT_BITS + 127)) << 23).to(tl.float32, bitcast=True)
    return tl.where(keys <= last_key, (power * scale).to(tl.int64), 0)


@triton.jit
def floor_of(min_logits):
    """The key of a min_logit; without the sign of a zero, its bits are those of the distance 0."""
    return min_logits & 0x7FFFFFFF


@triton.jit
def target_of(numbers, total):
    """Of a row's weights, the one that its seed and position (numbers[0], [1]) point at."""
    share = uniform_of(tl.load(numbers), tl.load(numbers + 1))
    return tl.minimum((share * total.to(tl.float64)).to(tl.int64), total - 1)


def reference_weights(below: Tensor) -> Tensor:
    """weights_of of distances (V,), in torch; int64."""
    t = (below * -LOG2E.value).clamp_min(-64.0)
    n = torch.floor(t + 0.5)
    power = torch.full_like(t, C7.value)
    for constant in (C6, C5, C4, C3, C2, C1):
        power = power * (t - n) + constant.value
    power = power * (t - n) + 1.0
    return (power * torch.exp2(n + UNIT_BITS.value)).long()
