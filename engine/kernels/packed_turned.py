"""The online softmax of decode over packed pages, turned: a page's tokens and channels are the
rows of products, and the few query heads of a KV head their columns.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment,misc,var-annotated"
# ruff: noqa: RUF005 (Triton adds tuples, but does not unpack into them)

from __future__ import annotations

import triton
import triton.language as tl

from engine.kernels.packed_rows import EXPONENT, LEAST_SCALE, LIFT, load_channel_meta
from engine.kernels.packed_words import (
    halves_of_meta,
    load_key_words,
    load_value_words,
    number_of,
    offsets_of_tokens,
    shrunk,
    unit_of,
)
from engine.kernels.paged import NO_SCORE


@triton.jit
def load_queries(rows, live, factor, SIDE: tl.constexpr, OPERAND: tl.constexpr):
    """A tuple of (block, M), the channels of each piece of K at `rows` (M,), 0 beyond both ends.

    As they multiply codes: fp32 and times `factor` where a scale goes into them, else OPERAND.
    """
    queries = ()
    NUM: tl.constexpr = SIDE.num_pieces
    for piece in tl.static_range(NUM):
        offsets = tl.arange(0, SIDE.block)
        inside = (offsets < SIDE.piece)[:, None] & live[None, :]
        ptrs = rows[None, :] + (SIDE.starts[piece] + offsets)[:, None]
        query = tl.load(ptrs, mask=inside, other=0.0)
        if SIDE.by_channel:
            query = query.to(tl.float32) * factor
        elif SIDE.nbits < 16:
            query = query.to(OPERAND)
        queries = queries + (query,)
    return queries


@triton.jit
def query_sums(queries, factor, SIDE: tl.constexpr):
    """A tuple of (M,), the sum of each group's channels; empty where no offset needs it."""
    sums = ()
    NUM: tl.constexpr = SIDE.num_pieces
    if SIDE.has_offset and not SIDE.by_channel:
        GROUPS: tl.constexpr = SIDE.num_groups
        for group in tl.static_range(GROUPS):
            total = tl.zeros((queries[0].shape[1],), tl.float32)
            for piece in tl.static_range(NUM):
                if SIDE.groups[piece] == group:
                    total += tl.sum(queries[piece].to(tl.float32), 0)
            sums = sums + (total * factor,)
    return sums


@triton.jit
def nothing_seen(M: tl.constexpr, SIDE: tl.constexpr):
    """The state of an online softmax before its first page, in the order that its steps take it.

    Of each row: the largest score; the weights, not added up (half, M); an accumulator (block, M)
    for each piece of V; for each group with offsets what these come to (half, M); and the power of
    two that accumulators are in units of.
    """
    accs = ()
    rests = ()
    NUM: tl.constexpr = SIDE.num_word_pieces
    GROUPS: tl.constexpr = SIDE.num_groups if SIDE.has_offset else 0
    BLOCK: tl.constexpr = SIDE.word_block
    HALF: tl.constexpr = SIDE.half_block
    for _ in tl.static_range(NUM):
        accs = accs + (tl.zeros((BLOCK, M), tl.float32),)
    for _ in tl.static_range(GROUPS):
        rests = rests + (tl.zeros((HALF, M), tl.float32),)
    largest = tl.full((M,), NO_SCORE, tl.float32)
    return largest, tl.zeros((HALF, M), tl.float32), accs, rests, tl.full((M,), 1.0, tl.float32)


@triton.jit
def packed_scores(
    queries,
    sums,
    record,
    factor,
    SIDE: tl.constexpr,
    OPERAND: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Two of (half, M) fp32, of even and of odd tokens, in units of log2; `factor` is the softmax's
    scale in them.

    An fp16 product of query and scale overflows only where one step of one code would change a
    weight 2**65504-fold; what underflows is beyond the score's own precision.
    """
    M: tl.constexpr = queries[0].shape[1]
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    HALF: tl.constexpr = SIDE.half_block
    BLOCK: tl.constexpr = SIDE.block
    WORTH: tl.constexpr = SIDE.worth if OPERAND == tl.float16 else 1.0
    zeros = tl.zeros((HALF, M), tl.float32)
    even = zeros
    odd = zeros
    if SIDE.nbits == 16:
        words = load_key_words(record, SIDE, 0, DTYPE)
        first = number_of(words, SIDE, 0, 0, OPERAND, DTYPE)
        even = tl.dot(first, queries[0], zeros, input_precision="ieee") * factor
        second = number_of(words, SIDE, 1, 0, OPERAND, DTYPE)
        odd = tl.dot(second, queries[0], zeros, input_precision="ieee") * factor
    elif SIDE.by_channel:
        offset = tl.zeros((BLOCK, M), tl.float32)
        for column in tl.static_range(COLUMNS):
            words = load_key_words(record, SIDE, column, DTYPE)
            for part in tl.static_range(PARTS):
                query = queries[column * PARTS + part]
                scale = load_channel_meta(record, SIDE, 0, SIDE.starts[column * PARTS + part])
                step = shrunk(scale, SIDE, part, OPERAND)
                operand = (query * step[:, None]).to(OPERAND)
                first = number_of(words, SIDE, 0, part, OPERAND, DTYPE)
                even = tl.dot(first, operand, even, input_precision="ieee")
                second = number_of(words, SIDE, 1, part, OPERAND, DTYPE)
                odd = tl.dot(second, operand, odd, input_precision="ieee")
                if SIDE.has_least:
                    least = load_channel_meta(record, SIDE, 1, SIDE.starts[column * PARTS + part])
                    offset += query * least[:, None]
                elif SIDE.has_offset:
                    # The operand as it was rounded: what is common to all codes cancels.
                    offset += shrunk(operand.to(tl.float32) * -SIDE.middle, SIDE, -part, OPERAND)
        if SIDE.has_offset:
            total = tl.sum(offset, 0)[None, :]
            even = even * WORTH + total
            odd = odd * WORTH + total
        else:
            even *= WORTH
            odd *= WORTH
    else:
        for column in tl.static_range(COLUMNS):
            words = load_key_words(record, SIDE, column, DTYPE)
            for part in tl.static_range(PARTS):
                step = shrunk(factor * WORTH, SIDE, part, OPERAND)
                scales = halves_of_meta(record, SIDE, 0, SIDE.groups[column * PARTS + part])
                query = queries[column * PARTS + part]
                first = number_of(words, SIDE, 0, part, OPERAND, DTYPE)
                products = tl.dot(first, query, zeros, input_precision="ieee")
                even += products * (scales[0] * step)[:, None]
                second = number_of(words, SIDE, 1, part, OPERAND, DTYPE)
                products = tl.dot(second, query, zeros, input_precision="ieee")
                odd += products * (scales[1] * step)[:, None]
        NUM_SUMS: tl.constexpr = len(sums)
        for group in tl.static_range(NUM_SUMS):
            offsets = offsets_of_tokens(record, SIDE, group)
            even += offsets[0][:, None] * sums[group][None, :]
            odd += offsets[1][:, None] * sums[group][None, :]
    if HALF != SIDE.page // 2:
        there = (tl.arange(0, HALF) < SIDE.page // 2)[:, None]
        even = tl.where(there, even, -float("inf"))
        odd = tl.where(there, odd, -float("inf"))
    return even, odd


@triton.jit
def _lifted(scales, unit, alpha, SIDE: tl.constexpr):
    """What weights of 16 bits are lifted by, a power of two, as scales may be small; the new unit,
    and what older sums, in units of the old one, shrink by.
    """
    GROUPS: tl.constexpr = SIDE.num_groups
    peak = tl.maximum(scales[0][0], scales[0][1])
    for group in tl.static_range(1, GROUPS):
        peak = tl.maximum(peak, tl.maximum(scales[group][0], scales[group][1]))
    peak = tl.max(tl.broadcast_to(peak[:, None], (peak.shape[0], unit.shape[0])), 0)
    exponent = tl.maximum(peak, LEAST_SCALE).to(tl.int32, bitcast=True) & EXPONENT
    lift = ((254 << 23) - exponent).to(tl.float32, bitcast=True) * LIFT
    return lift, exponent.to(tl.float32, bitcast=True) * (1.0 / LIFT), alpha * (unit * lift)


@triton.jit
def add_page(
    largest,
    total,
    accs,
    rests,
    unit,
    even,
    odd,
    record,
    SIDE: tl.constexpr,
    OPERAND: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """One step of the online softmax: a record's values by the scores of its tokens."""
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    new = tl.maximum(largest, tl.max(tl.maximum(even, odd), 0))
    even = tl.exp2(even - new[None, :])
    odd = tl.exp2(odd - new[None, :])
    alpha = tl.exp2(largest - new)
    total = total * alpha[None, :] + (even + odd)
    weights = ()
    new_rests = ()
    if SIDE.nbits == 16:
        weights = ((even.to(DTYPE), odd.to(DTYPE)),)
    else:
        GROUPS: tl.constexpr = SIDE.num_groups
        scales = ()
        for group in tl.static_range(GROUPS):
            scales = scales + (halves_of_meta(record, SIDE, 0, group),)
            if SIDE.has_offset:
                offsets = offsets_of_tokens(record, SIDE, group)
                rest = even * offsets[0][:, None] + odd * offsets[1][:, None]
                new_rests = new_rests + (rests[group] * alpha[None, :] + rest,)
        if OPERAND == tl.float16:
            lift, unit, alpha = _lifted(scales, unit, alpha, SIDE)
            even *= lift[None, :]
            odd *= lift[None, :]
        for group in tl.static_range(GROUPS):
            first = (even * scales[group][0][:, None]).to(OPERAND)
            second = (odd * scales[group][1][:, None]).to(OPERAND)
            weights = weights + ((first, second),)
    new_accs = ()
    for column in tl.static_range(COLUMNS):
        evens = load_value_words(record, SIDE, column, 0, DTYPE)
        odds = load_value_words(record, SIDE, column, 1, DTYPE)
        for place in tl.static_range(2 * PARTS):
            mine = weights[SIDE.word_groups[2 * column * PARTS + place]]
            acc = accs[2 * column * PARTS + place] * alpha[None, :]
            numbers = number_of(evens, SIDE, place // PARTS, place % PARTS, OPERAND, DTYPE)
            acc = tl.dot(numbers, mine[0], acc, input_precision="ieee")
            numbers = number_of(odds, SIDE, place // PARTS, place % PARTS, OPERAND, DTYPE)
            acc = tl.dot(numbers, mine[1], acc, input_precision="ieee")
            new_accs = new_accs + (acc,)
    return new, total, new_accs, new_rests, unit


@triton.jit
def settled(total, accs, rests, unit, SIDE: tl.constexpr, OPERAND: tl.constexpr):
    """After the last packed page: what the weights come to (M,), and accumulators in units of 1."""
    NUM: tl.constexpr = SIDE.num_word_pieces
    WORTH: tl.constexpr = SIDE.worth if OPERAND == tl.float16 else 1.0
    whole = ()
    for piece in tl.static_range(NUM):
        step = shrunk(unit * WORTH, SIDE, piece % SIDE.parts, OPERAND)
        acc = accs[piece] * step[None, :]
        if SIDE.has_offset:
            acc += tl.sum(rests[SIDE.word_groups[piece]], 0)[None, :]
        whole = whole + (acc,)
    return tl.sum(total, 0), whole


@triton.jit
def add_wide(
    largest,
    total,
    accs,
    queries,
    k_rows,
    v_rows,
    written,
    seen,
    factor,
    SIDE: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """One step over wide rows, k_rows and v_rows (N,) pointing to them, by queries (D, M).

    Rows that are not `written` (N,) count as 0; tokens that are not `seen` (N,) do not count.
    """
    BLOCK_D: tl.constexpr = queries.shape[0]
    PARTS: tl.constexpr = SIDE.parts
    COLUMNS: tl.constexpr = SIDE.num_columns
    channels = tl.arange(0, BLOCK_D)
    inside = (channels < SIDE.head_dim)[None, :] & written[:, None]
    keys = tl.load(k_rows[:, None] + channels[None, :], mask=inside, other=0.0)
    scores = tl.dot(keys, queries, input_precision="ieee") * factor
    scores = tl.where(seen[:, None], scores, -float("inf"))
    new = tl.maximum(largest, tl.max(scores, 0))
    p = tl.exp2(scores - new[None, :])
    alpha = tl.exp2(largest - new)
    total = total * alpha + tl.sum(p, 0)
    weights = p.to(DTYPE)
    # Two channels at once, as the accumulators have them.
    if DTYPE.primitive_bitwidth == 16:
        words = v_rows.to(tl.pointer_type(tl.int32))
    else:
        words = v_rows.to(tl.pointer_type(tl.int64))
    places = tl.arange(0, SIDE.word_block)
    there = (places < SIDE.piece // 2)[:, None] & written[None, :]
    new_accs = ()
    for column in tl.static_range(COLUMNS):
        for place in tl.static_range(2 * PARTS):
            first = SIDE.word_starts[2 * column * PARTS + place] // 2
            pairs = tl.load(words[None, :] + (first + places)[:, None], mask=there, other=0)
            values = unit_of(pairs, place // PARTS, DTYPE)
            acc = accs[2 * column * PARTS + place] * alpha[None, :]
            acc = tl.dot(values, weights, acc, input_precision="ieee")
            new_accs = new_accs + (acc,)
    return new, total, new_accs
