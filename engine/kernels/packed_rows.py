"""Pages of packed and of wide rows as prefill reads them, channel by channel.

A packed K is never turned back: its scale goes into the query and its least value into the score,
V's go into the weight and into the sum. Codes are exact in fp16, so tensor cores multiply those.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment,misc,var-annotated"
# ruff: noqa: RUF005 (Triton adds tuples, but does not unpack into them)

from __future__ import annotations

import triton
import triton.language as tl

from engine.kernels.paged import NO_SCORE

# Of an fp32's bits, those of its exponent; and 2**-24, the least scale that fp16 holds but 0.
EXPONENT = tl.constexpr(0x7F800000)
LEAST_SCALE = tl.constexpr(2.0**-24)
# Weights of 16 bits are kept below 2 * LIFT, the upper end of what fp16 holds.
LIFT = tl.constexpr(2.0**14)
# The interpreter has no inline assembly.
COMPILED = tl.constexpr(not triton.knobs.runtime.interpret)


@triton.jit
def channels_of(SIDE: tl.constexpr, START: tl.constexpr):
    """The channels of the piece that begins at START, and which of them it has."""
    offsets = tl.arange(0, SIDE.block)
    return START + offsets, offsets < SIDE.piece


@triton.jit
def load_pieces(rows, live, SIDE: tl.constexpr):
    """A tuple of (M, block): a row's channels at `rows` (M,) piece by piece, 0 beyond both ends."""
    pieces = ()
    NUM: tl.constexpr = SIDE.num_pieces
    for piece in tl.static_range(NUM):
        channels, inside = channels_of(SIDE, SIDE.starts[piece])
        mask = live[:, None]
        if SIDE.block != SIDE.piece:
            mask = mask & inside[None, :]
        pieces = pieces + (tl.load(rows[:, None] + channels[None, :], mask=mask, other=0.0),)
    return pieces


@triton.jit
def query_sums(queries, factor, SIDE: tl.constexpr):
    """A tuple of (M,), the sum of each group's channels; empty where no least value needs it."""
    sums = ()
    NUM: tl.constexpr = SIDE.num_pieces
    if SIDE.has_least and not SIDE.by_channel:
        GROUPS: tl.constexpr = SIDE.num_groups
        for group in tl.static_range(GROUPS):
            total = tl.zeros((queries[0].shape[0],), tl.float32)
            for piece in tl.static_range(NUM):
                if SIDE.groups[piece] == group:
                    total += tl.sum(queries[piece].to(tl.float32), 1)
            sums = sums + (total * factor,)
    return sums


@triton.jit
def nothing_seen(M: tl.constexpr, SIDE: tl.constexpr):
    """The state of an online softmax before its first step, in the order that its steps take it.

    Of each row: the largest score; what its weights come to, (M, 1); an accumulator (M, block) for
    each piece of V; for each group with least values what these come to, (M, 1); and the power of
    two that accumulators are in units of.
    """
    accs = ()
    rests = ()
    NUM: tl.constexpr = SIDE.num_pieces
    GROUPS: tl.constexpr = SIDE.num_groups if SIDE.has_least else 0
    BLOCK: tl.constexpr = SIDE.block
    for _ in tl.static_range(NUM):
        accs = accs + (tl.zeros((M, BLOCK), tl.float32),)
    for _ in tl.static_range(GROUPS):
        rests = rests + (tl.zeros((M, 1), tl.float32),)
    largest = tl.full((M,), NO_SCORE, tl.float32)
    return largest, tl.zeros((M, 1), tl.float32), accs, rests, tl.full((M,), 1.0, tl.float32)


@triton.jit
def load_key_codes(record, SIDE: tl.constexpr, COLUMN: tl.constexpr, DTYPE: tl.constexpr):
    """(block, page) bytes of codes, or elements of DTYPE; rows beyond the piece are 0."""
    offsets = tl.arange(0, SIDE.block)
    places = (COLUMN * SIDE.piece + offsets)[:, None] * SIDE.page + tl.arange(0, SIDE.page)[None, :]
    base = record + SIDE.codes_at
    if SIDE.nbits == 16:
        base = base.to(tl.pointer_type(DTYPE))
    if SIDE.block == SIDE.piece:
        return tl.load(base + places)
    else:
        return tl.load(base + places, mask=(offsets < SIDE.piece)[:, None], other=0)


@triton.jit
def load_value_codes(record, SIDE: tl.constexpr, COLUMN: tl.constexpr, DTYPE: tl.constexpr):
    """(page, block) in the same way."""
    offsets = tl.arange(0, SIDE.block)
    columns = COLUMN * SIDE.piece + offsets
    places = tl.arange(0, SIDE.page)[:, None] * SIDE.row_units + columns[None, :]
    base = record + SIDE.codes_at
    if SIDE.nbits == 16:
        base = base.to(tl.pointer_type(DTYPE))
    if SIDE.block == SIDE.piece:
        return tl.load(base + places)
    else:
        return tl.load(base + places, mask=(offsets < SIDE.piece)[None, :], other=0)


@triton.jit
def numbers_of(codes, SIDE: tl.constexpr, OPERAND: tl.constexpr):
    """A tuple of what each part of a byte stands for before scale and least value, exact.

    The assembly is said not to be pure: else Triton moves it to where a product takes its operand,
    and there each byte is loaded by itself, which made a third more instructions (int8, compiled
    for a Hopper GPU).
    """
    PARTS: tl.constexpr = SIDE.parts
    if OPERAND == tl.float16 and COMPILED:
        if PARTS == 1:
            return (
                tl.inline_asm_elementwise(SIDE.unpacking, "=r,=r,r", [codes], tl.float16, False, 4),
            )
        elif PARTS == 2:
            return tl.inline_asm_elementwise(
                SIDE.unpacking, "=r,=r,=r,=r,r", [codes], (tl.float16, tl.float16), False, 4
            )
        else:
            return tl.inline_asm_elementwise(
                SIDE.unpacking,
                "=r,=r,=r,=r,=r,=r,=r,=r,r",
                [codes],
                (tl.float16, tl.float16, tl.float16, tl.float16),
                False,
                4,
            )
    elif SIDE.is_float:
        # e4m3 in the bits of an fp16 is 2**-8 of itself, subnormal numbers and all.
        bits = codes.to(tl.int16)
        half = (((bits & 0x80) << 8) | ((bits & 0x7F) << 7)).to(tl.float16, bitcast=True)
        return (half.to(OPERAND) * 256.0,)
    else:
        numbers = ()
        for part in tl.static_range(PARTS):
            number = ((codes >> (part * SIDE.nbits)) & SIDE.top).to(OPERAND)
            if not SIDE.has_least:
                number -= SIDE.middle
            numbers = numbers + (number,)
        return numbers


@triton.jit
def _load_meta(numbers, offsets, inside):
    """fp32 of the fp16 `numbers` at `offsets`; 0 where they are not `inside`.

    Read as pairs, of which each takes its half: Triton prefetches no less than 4 bytes, and a pair
    is one element in whatever layout the scores have.
    """
    pairs = numbers.to(tl.pointer_type(tl.int32))
    pair = tl.load(pairs + offsets // 2, mask=inside, other=0)
    return (pair >> (offsets % 2 * 16)).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def load_channel_meta(record, SIDE: tl.constexpr, WHICH: tl.constexpr, START: tl.constexpr):
    """(block,) fp32 of a piece's channels; WHICH is 0 for scales, 1 for least values."""
    channels, inside = channels_of(SIDE, START)
    numbers = (record + SIDE.meta_at).to(tl.pointer_type(tl.float16)) + WHICH * SIDE.head_dim
    return _load_meta(numbers, channels, inside)


@triton.jit
def load_token_meta(record, SIDE: tl.constexpr, WHICH: tl.constexpr, GROUP: tl.constexpr):
    """(page,) fp32, one for each token's channels of this group."""
    numbers = (record + SIDE.meta_at).to(tl.pointer_type(tl.float16))
    numbers += (WHICH * SIDE.num_groups + GROUP) * SIDE.page
    tokens = tl.arange(0, SIDE.page)
    return _load_meta(numbers, tokens, tokens >= 0)


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
    """(M, page) fp32 in units of log2, `factor` being the softmax's scale in them.

    An fp16 product of query and scale overflows only where one step of one code would change a
    weight 2**65504-fold; what underflows is beyond the score's own precision.
    """
    M: tl.constexpr = queries[0].shape[0]
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    PAGE: tl.constexpr = SIDE.page
    BLOCK: tl.constexpr = SIDE.block
    zeros = tl.zeros((M, PAGE), tl.float32)
    scores = zeros
    if SIDE.nbits == 16:
        keys = load_key_codes(record, SIDE, 0, DTYPE)
        scores = tl.dot(queries[0].to(DTYPE), keys, input_precision="ieee") * factor
    elif SIDE.by_channel:
        offset = tl.zeros((M, BLOCK), tl.float32)
        for column in tl.static_range(COLUMNS):
            codes = load_key_codes(record, SIDE, column, DTYPE)
            numbers = numbers_of(codes, SIDE, OPERAND)
            for part in tl.static_range(PARTS):
                query = queries[column * PARTS + part].to(tl.float32) * factor
                scale = load_channel_meta(record, SIDE, 0, SIDE.starts[column * PARTS + part])
                scaled = (query * scale[None, :]).to(OPERAND)
                scores = tl.dot(scaled, numbers[part], scores, input_precision="ieee")
                if SIDE.has_least:
                    least = load_channel_meta(record, SIDE, 1, SIDE.starts[column * PARTS + part])
                    offset += query * least[None, :]
        if SIDE.has_least:
            scores += tl.sum(offset, 1)[:, None]
    else:
        for column in tl.static_range(COLUMNS):
            codes = load_key_codes(record, SIDE, column, DTYPE)
            numbers = numbers_of(codes, SIDE, OPERAND)
            for part in tl.static_range(PARTS):
                query = queries[column * PARTS + part].to(OPERAND)
                products = tl.dot(query, numbers[part], input_precision="ieee")
                scale = load_token_meta(record, SIDE, 0, SIDE.groups[column * PARTS + part])
                scores += products * (scale * factor)[None, :]
        NUM_SUMS: tl.constexpr = len(sums)
        for group in tl.static_range(NUM_SUMS):
            scores += sums[group][:, None] * load_token_meta(record, SIDE, 1, group)[None, :]
    return scores


@triton.jit
def _weights(largest, scores):
    """The new largest score, the weights of `scores`, and what older sums shrink by."""
    new = tl.maximum(largest, tl.max(scores, 1))
    return new, tl.exp2(scores - new[:, None]), tl.exp2(largest - new)


@triton.jit
def add_page(
    largest,
    total,
    accs,
    rests,
    unit,
    scores,
    record,
    SIDE: tl.constexpr,
    OPERAND: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """One step of the online softmax: a record's values by their scores (M, page)."""
    M: tl.constexpr = scores.shape[0]
    PAGE: tl.constexpr = SIDE.page
    COLUMNS: tl.constexpr = SIDE.num_columns
    PARTS: tl.constexpr = SIDE.parts
    largest, p, alpha = _weights(largest, scores)
    total = total * alpha[:, None] + tl.sum(p, 1, keep_dims=True)
    new_accs = ()
    new_rests = ()
    if SIDE.nbits == 16:
        values = load_value_codes(record, SIDE, 0, DTYPE)
        acc = accs[0] * alpha[:, None]
        new_accs = (tl.dot(p.to(DTYPE), values, acc, input_precision="ieee"),)
    else:
        GROUPS: tl.constexpr = SIDE.num_groups
        scales = ()
        for group in tl.static_range(GROUPS):
            scales = scales + (load_token_meta(record, SIDE, 0, group),)
            if SIDE.has_least:
                least = load_token_meta(record, SIDE, 1, group)
                rest = rests[group] * alpha[:, None] + tl.sum(p * least[None, :], 1, keep_dims=True)
                new_rests = new_rests + (rest,)
        lift = 1.0
        if OPERAND == tl.float16:
            # Weights of 16 bits: scales, which may be small, are lifted by a power of two.
            peak = scales[0]
            for group in tl.static_range(1, GROUPS):
                peak = tl.maximum(peak, scales[group])
            peak = tl.max(tl.broadcast_to(peak[None, :], (M, PAGE)), 1)
            exponent = tl.maximum(peak, LEAST_SCALE).to(tl.int32, bitcast=True) & EXPONENT
            lift = ((254 << 23) - exponent).to(tl.float32, bitcast=True) * LIFT
            alpha *= unit * lift
            unit = exponent.to(tl.float32, bitcast=True) * (1.0 / LIFT)
            p = p * lift[:, None]
        weights = ()
        for group in tl.static_range(GROUPS):
            weights = weights + ((p * scales[group][None, :]).to(OPERAND),)
        for column in tl.static_range(COLUMNS):
            codes = load_value_codes(record, SIDE, column, DTYPE)
            numbers = numbers_of(codes, SIDE, OPERAND)
            for part in tl.static_range(PARTS):
                acc = accs[column * PARTS + part] * alpha[:, None]
                mine = weights[SIDE.groups[column * PARTS + part]]
                new_accs = new_accs + (tl.dot(mine, numbers[part], acc, input_precision="ieee"),)
    return largest, total, new_accs, new_rests, unit


@triton.jit
def add_wide(
    largest,
    total,
    accs,
    rests,
    unit,
    queries,
    k_rows,
    v_rows,
    written,
    seen,
    factor,
    KEY: tl.constexpr,
    VALUE: tl.constexpr,
):
    """One step of the online softmax over wide rows, k_rows and v_rows (N,) pointing to them.

    Rows that are not `written` (N,) count as 0; scores that are not `seen` (M, N) do not count.
    """
    M: tl.constexpr = queries[0].shape[0]
    NUM_KEYS: tl.constexpr = KEY.num_pieces
    NUM_VALUES: tl.constexpr = VALUE.num_pieces
    NUM_RESTS: tl.constexpr = len(rests)
    keys = load_pieces(k_rows, written, KEY)
    scores = tl.zeros((M, k_rows.shape[0]), tl.float32)
    for piece in tl.static_range(NUM_KEYS):
        scores = tl.dot(queries[piece], tl.trans(keys[piece]), scores, input_precision="ieee")
    scores = tl.where(seen, scores * factor, -float("inf"))
    largest, p, alpha = _weights(largest, scores)
    total = total * alpha[:, None] + tl.sum(p, 1, keep_dims=True)
    values = load_pieces(v_rows, written, VALUE)
    new_accs = ()
    new_rests = ()
    for piece in tl.static_range(NUM_VALUES):
        acc = accs[piece] * (alpha * unit)[:, None]
        weights = p.to(values[piece].dtype)
        new_accs = new_accs + (tl.dot(weights, values[piece], acc, input_precision="ieee"),)
    for rest in tl.static_range(NUM_RESTS):
        new_rests = new_rests + (rests[rest] * alpha[:, None],)
    return largest, total, new_accs, new_rests, tl.full((M,), 1.0, tl.float32)


@triton.jit
def piece_of_sums(accs, rests, unit, PIECE: tl.constexpr, SIDE: tl.constexpr):
    """(M, block): what a piece's weighed values come to."""
    values = accs[PIECE] * unit[:, None]
    if SIDE.has_least:
        values += rests[SIDE.groups[PIECE]]
    return values
