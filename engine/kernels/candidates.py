"""A row's token from its few thousand likeliest ones, its candidates, when these decide.

`draws` are the 32-bit words of a table of engine.draws.DRAW, `numbers` its 64-bit words; `heads`
(S, 4) int32 hold of each row the largest logit's bits, its first token, how far below it the
candidates go (a key of weights.py), and how many there are.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from engine.kernels.weights import (
    NO_KEY,
    floor_of,
    key_of,
    load_keys,
    target_of,
    weights_of,
)

SPLIT = tl.constexpr(8192)  # tokens of a row that one program reads
TILE = tl.constexpr(4096)
BLOCK = tl.constexpr(128)  # tokens of which the largest logit is kept
CANDIDATES = tl.constexpr(4096)  # room for them
# exp(-28) is less than half a unit of weight: what lies beyond has none.
WEIGHTLESS_KEY = tl.constexpr(0x41E00000)


@triton.jit
def maxima_kernel(logits, block_maxima, stride, V, num_blocks, BLOCKS: tl.constexpr):
    row, first = tl.program_id(0), tl.program_id(1) * BLOCKS
    blocks = first + tl.arange(0, BLOCKS)
    tokens = blocks[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    values = tl.load(
        logits + row.to(tl.int64) * stride + tokens, mask=tokens < V, other=float("-inf")
    )
    largest = tl.max(values.to(tl.float32), 1)
    tl.store(block_maxima + row * num_blocks + blocks, largest, mask=blocks < num_blocks)


@triton.jit
def _kth_key(keys, low, high, k):
    """The least of low..high up to which `k` of the keys lie; `high` if there is none."""
    while low < high:
        middle = low + (high - low) // 2
        enough = tl.sum((keys <= middle).to(tl.int32), 0) >= k
        low = tl.where(enough, low, middle + 1)
        high = tl.where(enough, middle, high)
    return high


@triton.jit
def heads_kernel(
    logits, draws, block_maxima, heads, stride, V, num_blocks, wanted, BLOCKS: tl.constexpr
):
    """The largest logit of each row, its token, and how far from it the candidates go."""
    row = tl.program_id(0)
    blocks = tl.arange(0, BLOCKS)
    maxima = tl.load(
        block_maxima + row * num_blocks + blocks, mask=blocks < num_blocks, other=float("-inf")
    )
    largest = tl.max(maxima, 0)
    block = tl.min(tl.where(maxima == largest, blocks, BLOCKS), 0)
    tokens = block * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(
        logits + row.to(tl.int64) * stride + tokens, mask=tokens < V, other=float("-inf")
    )
    token = tl.min(tl.where(values.to(tl.float32) == largest, tokens, V), 0)
    inverse_temperature = tl.load(draws + row * 8 + 4).to(tl.float32, bitcast=True)
    keys = key_of(maxima, inverse_temperature, largest * inverse_temperature)
    keys = tl.where(blocks < num_blocks, keys, NO_KEY)
    cutoff = _kth_key(keys, tl.min(keys, 0), tl.zeros_like(token) + WEIGHTLESS_KEY, wanted)
    heads += row * 4
    tl.store(heads, largest.to(tl.int32, bitcast=True))
    tl.store(heads + 1, token)
    tl.store(heads + 2, cutoff)
    tl.store(heads + 3, 0)


@triton.jit
def gather_kernel(logits, draws, heads, masses, candidates, stride, V, num_splits):
    """The candidates of a row and, unless it has a top-k, the weight of each of its splits."""
    row, split = tl.program_id(0), tl.program_id(1)
    draws += row * 8
    heads += row * 4
    candidates += row * 2 * CANDIDATES
    logits += row.to(tl.int64) * stride
    inverse_temperature = tl.load(draws + 4).to(tl.float32, bitcast=True)
    if inverse_temperature > 0.0:
        weighs, floor = tl.load(draws + 5) >= V, floor_of(tl.load(draws + 7))
        cutoff = tl.minimum(tl.load(heads + 2), floor)
        largest = tl.load(heads).to(tl.float32, bitcast=True) * inverse_temperature
        counters = heads + 3 + tl.zeros((TILE,), tl.int32)
        sums = tl.zeros((TILE,), tl.int64)
        for start in range(split * SPLIT, tl.minimum(split * SPLIT + SPLIT, V), TILE):
            keys = load_keys(logits, start, inverse_temperature, largest, V, TILE)
            if weighs:
                sums += weights_of(keys, floor)
            near = keys <= cutoff
            places = tl.atomic_add(counters, 1, mask=near, sem="relaxed")
            near = near & (places < CANDIDATES)
            tl.store(candidates + places, keys, mask=near)
            tokens = start + tl.arange(0, TILE)
            tl.store(candidates + CANDIDATES + places, tokens, mask=near)
        tl.store(masses + row * num_splits + split, tl.sum(sums, 0))


@triton.jit
def _last_of(keys, low, high, needed):
    """The least of low..high up to which the keys weigh `needed`."""
    while low < high:
        middle = low + (high - low) // 2
        mass = tl.sum(weights_of(keys, middle), 0)
        enough = mass.to(tl.float64) >= needed
        low = tl.where(enough, low, middle + 1)
        high = tl.where(enough, middle, high)
    return high


@triton.jit
def _token_at(tokens, weights, target, V):
    """The first token up to which the weights are more than `target`, whatever their order."""
    low = tl.min(tokens, 0) * 0
    high = low + V - 1
    while low < high:
        middle = low + (high - low) // 2
        beyond = tl.sum(tl.where(tokens <= middle, weights, 0), 0) > target
        low = tl.where(beyond, low, middle + 1)
        high = tl.where(beyond, middle, high)
    return high


@triton.jit
def choose_kernel(
    draws, numbers, heads, masses, candidates, out, V, num_splits, SPLITS: tl.constexpr
):
    """Tokens of the rows that the likeliest one or the candidates decide; -1 for the others."""
    row = tl.program_id(0)
    draws += row * 8
    heads += row * 4
    candidates += row * 2 * CANDIDATES
    inverse_temperature = tl.load(draws + 4).to(tl.float32, bitcast=True)
    token = tl.load(heads + 1)
    if inverse_temperature > 0.0:
        top_k, floor = tl.load(draws + 5), floor_of(tl.load(draws + 7))
        top_p = tl.load(draws + 6).to(tl.float32, bitcast=True)
        cutoff, count = tl.load(heads + 2), tl.load(heads + 3)
        places = tl.arange(0, CANDIDATES)
        keys = tl.load(candidates + places, mask=places < count, other=NO_KEY)
        tokens = tl.load(candidates + CANDIDATES + places, mask=places < count, other=V)
        last = tl.minimum(floor, cutoff)
        # Else there are tokens with a weight beyond the candidates.
        complete = (floor <= cutoff) | (cutoff >= WEIGHTLESS_KEY)
        served = count <= CANDIDATES
        splits = tl.arange(0, SPLITS)
        sums = tl.load(masses + row * num_splits + splits, mask=splits < num_splits, other=0)
        total = tl.sum(sums, 0)
        if top_k < V:
            served = served & ((top_k <= count) | complete)
            last = _kth_key(keys, tl.zeros_like(last), last, top_k)
            total = tl.sum(weights_of(keys, last), 0)
        needed = total.to(tl.float64)
        if top_p < 1.0:
            needed *= top_p.to(tl.float64)
        mass = tl.sum(weights_of(keys, last), 0)
        served = served & (mass.to(tl.float64) >= needed)
        token = tl.zeros_like(token) - 1
        if served:
            if top_p < 1.0:
                last = _last_of(keys, tl.zeros_like(last), last, needed)
            weights = weights_of(keys, last)
            token = _token_at(tokens, weights, target_of(numbers + row * 4, tl.sum(weights, 0)), V)
    tl.store(out + row, token.to(tl.int64))
