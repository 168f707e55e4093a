"""One layer's packed and wide pages, and their format as kernels are compiled for it."""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import torch
import triton.language as tl

from engine.attention import LayerPool
from engine.kernels.blocks import power_of_two
from engine.kernels.checks import (
    INTEGERS,
    expect_contiguous,
    expect_dtype,
    expect_dtype_in,
    expect_shape,
)
from engine.kernels.paged import check_heads, check_pool
from engine.kv.formats import CodeFormat, RecordLayout

if TYPE_CHECKING:
    from torch import Tensor

MIN_BLOCK_SIZE, MAX_BLOCK_SIZE = 16, 128
# The least depth of a product on a tensor core.
MIN_BLOCK = 16
TRITON_DTYPES = {
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float32: tl.float32,
}


class PackedPool(NamedTuple):
    """One layer's pages: records (N, H_kv, layout.num_bytes) uint8 of the packed ones, and wide.

    A block table names packed page n as n, and wide page n as N + n: only a sequence's first page
    may be wide, besides the one that a token's slot lies in.
    """

    records: Tensor
    wide: LayerPool
    layout: RecordLayout


class PackedLayerPool(LayerPool):
    """A layer's wide pages, as the model knows its pages, and with them the records."""

    packed: PackedPool

    @classmethod
    def of(cls, packed: PackedPool) -> PackedLayerPool:
        """Shares its tensors."""
        pool = cls(*packed.wide)
        pool.packed = packed
        return pool

    @property
    def num_bytes(self) -> int:
        """Of both kinds of pages."""
        return sum(int(tensor.nbytes) for tensor in (self.k, self.v, self.packed.records))


class Side(msgspec.Struct, frozen=True):
    """One of K and V, known when a kernel is compiled. Bytes count from a record's begin.

    A piece is what kernels load and multiply at once: channels side by side in a row of codes that
    share a scale. Those of one column lie in the same bytes, a part each. They are numbered by
    column, then part.
    """

    nbits: int
    is_float: bool
    by_channel: bool
    has_least: bool
    codes_at: int
    meta_at: int
    page: int  # tokens
    head_dim: int
    parts: int  # channels that share a byte
    piece: int  # channels
    block: int  # the power of two that holds them
    group: int  # channels that share a token's scale
    starts: tuple[int, ...]  # each piece's first channel
    groups: tuple[int, ...]  # and the group that it belongs to

    @property
    def num_pieces(self) -> int:
        return len(self.starts)

    @property
    def num_columns(self) -> int:
        return len(self.starts) // self.parts

    @property
    def num_groups(self) -> int:
        return self.head_dim // self.group

    @property
    def group_block(self) -> int:
        """The power of two that holds a group."""
        return power_of_two(self.group)

    @property
    def row_units(self) -> int:
        """Bytes, or unpacked elements, of one token of V."""
        return self.head_dim // self.parts

    @property
    def top(self) -> int:
        return (1 << self.nbits) - 1

    @property
    def has_offset(self) -> bool:
        """Codes are not in proportion to what they stand for."""
        return self.nbits < 16 and not self.is_float

    @property
    def half_block(self) -> int:
        """The power of two that holds half a page's tokens, as deep as a product must be."""
        return max(MIN_BLOCK, self.page // 2)

    @property
    def word_block(self) -> int:
        """The power of two that holds a piece's words of two channels."""
        return max(MIN_BLOCK, power_of_two(self.piece // 2))

    @property
    def num_word_pieces(self) -> int:
        return 2 * len(self.starts)

    @property
    def word_starts(self) -> tuple[int, ...]:
        """V's pieces of every other channel: each one's first, by column, then unit, then part."""
        columns = [
            self.starts[at : at + self.parts] for at in range(0, len(self.starts), self.parts)
        ]
        return tuple(start + unit for column in columns for unit in range(2) for start in column)

    @property
    def word_groups(self) -> tuple[int, ...]:
        return tuple(start // self.group for start in self.word_starts)

    @property
    def worth(self) -> float:
        """What a code in the low bits of an fp16 is to be multiplied by."""
        return 2.0**24 if self.has_offset else 1.0

    @property
    def selections(self) -> tuple[str, ...]:
        """PTX that takes the codes of one unit and part out of two words, as two fp16."""
        return tuple(
            _selection(self.nbits, self.is_float, unit, part)
            for unit in range(2)
            for part in range(self.parts)
        )

    @property
    def unpacking(self) -> str:
        return unpacking(self.nbits, self.is_float, 0 if self.has_least else self.middle)

    @property
    def middle(self) -> int:
        """What symmetric codes have for zero."""
        return 1 << (self.nbits - 1)


@cache
def unpacking(nbits: int, is_float: bool, middle: int) -> str:
    """PTX that turns the codes in four bytes into fp16: two registers for each part of a byte.

    A code in the low bits of 0x6400 is 1024 + code as an fp16; shifted up by n bits, 1024 and 2**n
    times it. What is too much is subtracted, which is exact.
    """
    parts = 8 // nbits
    word = f"${2 * parts}"
    if is_float:
        return (
            "{ .reg .b16 a, b;\n"
            f"mov.b32 {{a, b}}, {word};\n"
            "cvt.rn.f16x2.e4m3x2 $0, a;\ncvt.rn.f16x2.e4m3x2 $1, b; }"
        )
    lines = ["{ .reg .b32 pair<2>, top, factor, excess;", "mov.b32 top, 0x64646464;"]
    if nbits == 8:
        lines += [f"prmt.b32 $0, {word}, top, 0x4140;", f"prmt.b32 $1, {word}, top, 0x4342;"]
    else:
        lines += ["mov.b32 top, 0x64006400;"]
        lines += [f"prmt.b32 pair0, {word}, 0, 0x4140;", f"prmt.b32 pair1, {word}, 0, 0x4342;"]
    for part in range(parts):
        shift = part * nbits
        lines.append(f"mov.b32 factor, {_twice(2.0**-shift)};")
        lines.append(f"mov.b32 excess, {_twice(-(1024.0 * 2.0**-shift) - middle)};")
        for half in range(2):
            out = f"${2 * part + half}"
            if nbits < 8:
                mask = ((1 << nbits) - 1) << shift
                lines.append(f"lop3.b32 {out}, pair{half}, {mask << 16 | mask}, top, 0xEA;")
            lines.append(f"fma.rn.f16x2 {out}, {out}, factor, excess;")
    return "\n".join([*lines, "}"])


def _selection(nbits: int, is_float: bool, unit: int, part: int) -> str:
    if is_float:
        pick = f"prmt.b32 both, $1, 0, {0x4420 + 0x11 * unit:#x};"
        return (
            "{ .reg .b32 both; .reg .b16 a, b;\n"
            f"{pick}\nmov.b32 {{a, b}}, both;\ncvt.rn.f16x2.e4m3x2 $0, a; }}"
        )
    mask = ((1 << nbits) - 1) << (part * nbits)
    mask |= mask << 16
    if not unit:
        return f"and.b32 $0, $1, {mask};"
    return f"{{ .reg .b32 low;\nshr.b32 low, $1, 8;\nand.b32 $0, low, {mask}; }}"


def _twice(x: float) -> int:
    """The bits of a pair of fp16."""
    bits = int(torch.tensor(x, dtype=torch.float16).view(torch.int16)) & 0xFFFF
    return bits << 16 | bits


@cache
def sides_of(layout: RecordLayout) -> tuple[Side, Side]:
    """K's and V's."""
    key = _side(layout.format.key, layout, 0, layout.key_meta_at)
    return key, _side(layout.format.value, layout, layout.value_at, layout.value_meta_at)


def _side(form: CodeFormat, layout: RecordLayout, codes_at: int, meta_at: int) -> Side:
    head_dim, by_channel = layout.head_dim, form.is_packed and form.axis == "channel"
    parts = 8 // form.nbits if form.is_packed else 1
    shares = form.is_packed and not by_channel and form.group is not None
    group = form.group if shares and form.group else head_dim
    row = head_dim // parts
    piece = gcd(group, row)
    starts = [part * row + column for column in range(0, row, piece) for part in range(parts)]
    return Side(
        nbits=form.nbits,
        is_float=form.kind == "float",
        by_channel=by_channel,
        has_least=form.is_packed and form.has_least,
        codes_at=codes_at,
        meta_at=meta_at,
        page=layout.block_size,
        head_dim=head_dim,
        parts=parts,
        piece=piece,
        block=max(MIN_BLOCK, power_of_two(piece)),
        group=group,
        starts=tuple(starts),
        groups=tuple(start // group for start in starts),
    )


def check_packed_pool(pool: PackedPool, head_dim: int, dtype: torch.dtype) -> None:
    """Wide pages of `dtype`, records of the layout's size, pages of 16 to 128 tokens.

    Raises: ValueError or TypeError.
    """
    records, wide, layout = pool
    check_pool(wide, head_dim, dtype)
    num_kv_heads, block_size = wide.k.shape[1:3]
    if not MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE:
        raise ValueError(
            f"pages have {MIN_BLOCK_SIZE} to {MAX_BLOCK_SIZE} tokens, not {block_size}"
        )
    of_layout = (layout.block_size, layout.head_dim, layout.dtype_bytes)
    if of_layout != (block_size, head_dim, dtype.itemsize):
        raise ValueError(f"the layout is of pages {of_layout}, not of the pool's")
    if layout.format.value.is_packed and layout.format.value.axis != "token":
        raise ValueError("V's scales are a token's: a channel's do not fold into the weights")
    expect_shape("records", records, (records.shape[0], num_kv_heads, layout.num_bytes))
    expect_dtype("records", records, torch.uint8)
    expect_contiguous("records", records)


def check_packed_attention(q: Tensor, pool: PackedPool, slots: Tensor, out: Tensor) -> None:
    """q (T, H, D), dense in D, H a multiple of the pool's heads; slots (T,); out (T, H * D).

    Raises: ValueError or TypeError.
    """
    check_heads(q, pool.records.shape[1], out)
    check_packed_pool(pool, q.shape[2], q.dtype)
    expect_shape("slots", slots, (q.shape[0],))
    expect_dtype_in("slots", slots, INTEGERS)
    expect_contiguous("slots", slots)
