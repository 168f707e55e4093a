"""A row's token from all of its tokens: of rows without a threshold, or with a far one.

A threshold is looked for by halving, so the row is read some 30 times, from the second level cache.
Arguments are those of candidates.py; `masses` (S, splits) int64 hold the weight of each SPLIT.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from engine.kernels.candidates import SPLIT, TILE
from engine.kernels.weights import floor_of, load_keys, target_of, weights_of


@triton.jit
def _count(logits, inverse_temperature, largest, last, V):
    counts = tl.zeros((TILE,), tl.int32)
    for start in range(0, V, TILE):
        keys = load_keys(logits, start, inverse_temperature, largest, V, TILE)
        counts += (keys <= last).to(tl.int32)
    return tl.sum(counts, 0)


@triton.jit
def _mass(logits, inverse_temperature, largest, last, V):
    sums = tl.zeros((TILE,), tl.int64)
    for start in range(0, V, TILE):
        keys = load_keys(logits, start, inverse_temperature, largest, V, TILE)
        sums += weights_of(keys, last)
    return tl.sum(sums, 0)


@triton.jit
def _last_key(logits, inverse_temperature, largest, floor, top_k, top_p, V):
    """The key of the smallest logit kept: the least one at which count, then mass, suffices."""
    low = tl.where(top_k < V, 0, floor)
    high = floor
    while low < high:
        middle = low + (high - low) // 2
        enough = _count(logits, inverse_temperature, largest, middle, V) >= top_k
        low = tl.where(enough, low, middle + 1)
        high = tl.where(enough, middle, high)
    needed = top_p.to(tl.float64)
    if top_p < 1.0:
        needed *= _mass(logits, inverse_temperature, largest, high, V).to(tl.float64)
        low = low * 0
    while low < high:
        middle = low + (high - low) // 2
        mass = _mass(logits, inverse_temperature, largest, middle, V)
        enough = mass.to(tl.float64) >= needed
        low = tl.where(enough, low, middle + 1)
        high = tl.where(enough, middle, high)
    return high


@triton.jit
def _split_of(sums, splits, num_splits, target):
    """The split that holds the target, and the weight before it."""
    ends = tl.cumsum(sums, 0)
    split = tl.minimum(tl.sum((ends <= target).to(tl.int32), 0), num_splits - 1)
    return split, tl.sum(tl.where(splits < split, sums, 0), 0)


@triton.jit
def whole_row_kernel(
    logits, draws, numbers, heads, masses, out, stride, V, num_splits, SPLITS: tl.constexpr
):
    """Tokens of the rows that are left: no threshold, or one beyond the candidates."""
    row = tl.program_id(0)
    if tl.load(out + row) < 0:
        draws += row * 8
        logits += row.to(tl.int64) * stride
        inverse_temperature = tl.load(draws + 4).to(tl.float32, bitcast=True)
        largest = tl.load(heads + row * 4).to(tl.float32, bitcast=True) * inverse_temperature
        top_k, floor = tl.load(draws + 5), floor_of(tl.load(draws + 7))
        top_p = tl.load(draws + 6).to(tl.float32, bitcast=True)
        last = _last_key(logits, inverse_temperature, largest, floor, top_k, top_p, V)
        splits = tl.arange(0, SPLITS)
        sums = tl.load(masses + row * num_splits + splits, mask=splits < num_splits, other=0)
        total = tl.sum(sums, 0)
        start, before = 0, total * 0
        weighed = (last == floor) & (top_k >= V)
        if not weighed:
            total = _mass(logits, inverse_temperature, largest, last, V)
        target = target_of(numbers + row * 4, total)
        if weighed:
            split, before = _split_of(sums, splits, num_splits, target)
            start = split * SPLIT
        keys = load_keys(logits, start, inverse_temperature, largest, V, TILE)
        end = before + tl.sum(weights_of(keys, last), 0)
        while end <= target:
            before = end
            start += TILE
            keys = load_keys(logits, start, inverse_temperature, largest, V, TILE)
            end += tl.sum(weights_of(keys, last), 0)
        weights = weights_of(keys, last)
        token = start + tl.sum((before + tl.cumsum(weights, 0) <= target).to(tl.int32), 0)
        tl.store(out + row, token.to(tl.int64))
