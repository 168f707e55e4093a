"""Packed pages as decode reads them: in words of two units, a page's side the wide one of products.

A unit is a byte of codes, or an element that is not packed. A word of K holds two tokens, one of V
two channels. So a tensor core's operand comes out of a word without passing through shared memory:
16 bits are what it can turn on the way to a register. A code in an fp16's low bits is that many
times 2**-24, exactly, and needs no arithmetic: what is left of a conversion is one AND for two
codes. Scale and least value of K go into the query and the score, V's into the weight and the sum.

With codes turned into fp16 first, through shared memory, int4 took 353 us where this takes 209
(16 sequences of 32,768 tokens, 8 heads of 128 channels, H100: 55 and 92 % of the memory's rate).
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,misc"

from __future__ import annotations

import triton
import triton.language as tl

from engine.kernels.packed_rows import COMPILED


@triton.jit
def _as_words(base, SIDE: tl.constexpr, DTYPE: tl.constexpr):
    if SIDE.nbits < 16:
        return base.to(tl.pointer_type(tl.int16))
    elif DTYPE.primitive_bitwidth == 16:
        return base.to(tl.pointer_type(tl.int32))
    else:
        return base.to(tl.pointer_type(tl.int64))


@triton.jit
def load_key_words(record, SIDE: tl.constexpr, COLUMN: tl.constexpr, DTYPE: tl.constexpr):
    """(half, block): tokens 2 i and 2 i + 1 of the channels that share a byte of the column."""
    words = _as_words(record + SIDE.codes_at, SIDE, DTYPE)
    pairs = tl.arange(0, SIDE.half_block)
    channels = tl.arange(0, SIDE.block)
    ptrs = words + (COLUMN * SIDE.piece + channels)[None, :] * (SIDE.page // 2) + pairs[:, None]
    if SIDE.block == SIDE.piece and SIDE.half_block == SIDE.page // 2:
        return tl.load(ptrs)
    else:
        inside = (channels < SIDE.piece)[None, :] & (pairs < SIDE.page // 2)[:, None]
        return tl.load(ptrs, mask=inside, other=0)


@triton.jit
def load_value_words(
    record, SIDE: tl.constexpr, COLUMN: tl.constexpr, ODD: tl.constexpr, DTYPE: tl.constexpr
):
    """(block, half): pairs of channels of the even tokens, or of the odd ones."""
    words = _as_words(record + SIDE.codes_at, SIDE, DTYPE)
    pairs = tl.arange(0, SIDE.half_block)
    places = tl.arange(0, SIDE.word_block)
    rows = words + (2 * pairs + ODD) * (SIDE.row_units // 2)
    ptrs = rows[None, :] + (COLUMN * (SIDE.piece // 2) + places)[:, None]
    if SIDE.word_block == SIDE.piece // 2 and SIDE.half_block == SIDE.page // 2:
        return tl.load(ptrs)
    else:
        inside = (places < SIDE.piece // 2)[:, None] & (pairs < SIDE.page // 2)[None, :]
        return tl.load(ptrs, mask=inside, other=0)


@triton.jit
def unit_of(words, UNIT: tl.constexpr, DTYPE: tl.constexpr):
    """The element of DTYPE that is the word's first or second half."""
    BITS: tl.constexpr = DTYPE.primitive_bitwidth
    half = words >> (UNIT * BITS)
    if BITS == 16:
        return half.to(tl.int16).to(DTYPE, bitcast=True)
    else:
        return half.to(tl.int32).to(DTYPE, bitcast=True)


@triton.jit
def number_of(
    words,
    SIDE: tl.constexpr,
    UNIT: tl.constexpr,
    PART: tl.constexpr,
    OPERAND: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Codes of a word's unit and part, or its element: times the side's worth and `shrunk`, what
    they stand for, but for scale and offset.
    """
    if SIDE.nbits == 16:
        return unit_of(words, UNIT, DTYPE)
    elif OPERAND == tl.float16 and COMPILED:
        assembly: tl.constexpr = SIDE.selections[UNIT * SIDE.parts + PART]
        return tl.inline_asm_elementwise(assembly, "=r,r", [words], tl.float16, True, 2)
    elif SIDE.is_float:
        byte = words >> (8 * UNIT)
        # e4m3 in the bits of an fp16 is 2**-8 of itself, subnormal numbers and all.
        bits = ((byte & 0x80) << 8) | ((byte & 0x7F) << 7)
        return bits.to(tl.int16).to(tl.float16, bitcast=True).to(OPERAND) * 256.0
    elif OPERAND == tl.float16:
        bits = (words >> (8 * UNIT)) & (SIDE.top << (PART * SIDE.nbits))
        return bits.to(tl.int16).to(tl.float16, bitcast=True)
    else:
        return ((words >> (8 * UNIT + PART * SIDE.nbits)) & SIDE.top).to(OPERAND)


@triton.jit
def shrunk(x, SIDE: tl.constexpr, PART: tl.constexpr, OPERAND: tl.constexpr):
    """By where in its byte the part lies, as its numbers are larger for that; back if negative."""
    if OPERAND == tl.float16 and SIDE.has_offset:
        return x * 2.0 ** -(SIDE.nbits * PART)
    else:
        return x


@triton.jit
def halves_of_meta(record, SIDE: tl.constexpr, WHICH: tl.constexpr, GROUP: tl.constexpr):
    """Two of (half,) fp32, of even and of odd tokens; WHICH is 0 for scales, 1 for least values."""
    pairs = (record + SIDE.meta_at).to(tl.pointer_type(tl.int32))
    pairs += (WHICH * SIDE.num_groups + GROUP) * (SIDE.page // 2)
    places = tl.arange(0, SIDE.half_block)
    if SIDE.half_block == SIDE.page // 2:
        both = tl.load(pairs + places)
    else:
        both = tl.load(pairs + places, mask=places < SIDE.page // 2, other=0)
    even = both.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return even, (both >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def offsets_of_tokens(record, SIDE: tl.constexpr, GROUP: tl.constexpr):
    """Two of (half,): what is added to each of a token's numbers once its scale is on."""
    if SIDE.has_least:
        return halves_of_meta(record, SIDE, 1, GROUP)
    else:
        even, odd = halves_of_meta(record, SIDE, 0, GROUP)
        return even * -SIDE.middle, odd * -SIDE.middle
