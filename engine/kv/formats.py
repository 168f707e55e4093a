"""How K and V are stored in a full page, and where in its record each part lies. No torch."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Literal

import msgspec

from engine.errors import EngineError

# What a scale or a least value takes: fp16, which quantising uses as it is stored.
META_BYTES: Final = 2
ALIGNMENT: Final = 16


class CodeFormat(msgspec.Struct, frozen=True):
    """How one of K and V is stored.

    `nbits` 16 keeps the elements in the engine's own dtype, whatever its size. A scale, and with
    `asym` a least value, is shared by a channel of a page (`axis` "channel") or by a token's
    channels ("token"), `group` of them at a time or all. `kind` "float" is fp8 e4m3.
    """

    nbits: Literal[16, 8, 4, 2]
    kind: Literal["int", "float"] = "int"
    axis: Literal["channel", "token"] = "token"
    asym: bool = True
    group: int | None = None

    @property
    def is_packed(self) -> bool:
        return self.nbits != 16

    @property
    def name(self) -> str:
        """Its kind and bits, as int4; 16 for the engine's own dtype."""
        if not self.is_packed:
            return "16"
        return "fp8" if self.kind == "float" else f"int{self.nbits}"

    def code_bytes(self, block_size: int, head_dim: int, dtype_bytes: int) -> int:
        """Of the elements of one page and head."""
        bits = self.nbits if self.is_packed else 8 * dtype_bytes
        return block_size * head_dim * bits // 8

    def num_scales(self, block_size: int, head_dim: int) -> int:
        if not self.is_packed:
            return 0
        if self.axis == "channel":
            return head_dim
        return block_size * (head_dim // (self.group or head_dim))

    def meta_bytes(self, block_size: int, head_dim: int) -> int:
        """Scales, then least values where there are any."""
        return META_BYTES * self.num_scales(block_size, head_dim) * (1 + self.has_least)

    @property
    def has_least(self) -> bool:
        return self.asym and self.kind == "int"

    def check(self, block_size: int, head_dim: int) -> None:
        """Raises: EngineError if such a page cannot be packed."""
        if not self.is_packed:
            return
        if self.kind == "float" and self.nbits != 8:
            raise EngineError(f"There is no {self.nbits}-bit float format", "fp8 has 8 bits.")
        per_byte = 8 // self.nbits
        if head_dim % (ALIGNMENT * per_byte):
            raise EngineError(
                f"A head of {head_dim} channels cannot be packed {per_byte} to a byte",
                f"{self.nbits}-bit formats need a multiple of {ALIGNMENT * per_byte}.",
            )
        if self.group is not None and (head_dim % self.group or self.group < 1):
            raise EngineError(
                f"Groups of {self.group} do not divide a head of {head_dim} channels",
                "Give q_group_size a divisor of the head's size.",
            )


class KVFormat(msgspec.Struct, frozen=True):
    """One layer's. V is scaled per token: a channel's scale would not fold into the weights."""

    key: CodeFormat
    value: CodeFormat

    @property
    def is_packed(self) -> bool:
        return self.key.is_packed or self.value.is_packed

    @property
    def name(self) -> str:
        """As --kv-cache-dtype has it, or else made of both names."""
        for name, known in KV_FORMATS.items():
            if known == self:
                return name
        return f"{self.key.name}+{self.value.name}"


UNPACKED: Final = CodeFormat(16)
BF16: Final = KVFormat(UNPACKED, UNPACKED)


def _channel(nbits: Literal[8, 4, 2]) -> CodeFormat:
    return CodeFormat(nbits, axis="channel")


FP8_KEY: Final = CodeFormat(8, "float", "channel", asym=False)
FP8_VALUE: Final = CodeFormat(8, "float", "token", asym=False)
# The names of --kv-cache-dtype. Groups of 32 channels where a token has 2 bits.
KV_FORMATS: Final[dict[str, KVFormat]] = {
    "auto": BF16,
    "fp8": KVFormat(FP8_KEY, FP8_VALUE),
    "int8": KVFormat(_channel(8), CodeFormat(8)),
    "int4": KVFormat(_channel(4), CodeFormat(4)),
    "int2": KVFormat(_channel(2), CodeFormat(2, group=32)),
    "k8v4": KVFormat(_channel(8), CodeFormat(4)),
    "k4v2": KVFormat(_channel(4), CodeFormat(2, group=32)),
}


class RecordLayout(msgspec.Struct, frozen=True, dict=True):
    """Where the parts of one page and head lie: K codes, V codes, K meta, V meta, in bytes.

    K codes are (D * nbits / 8, block_size) bytes: byte (j, t) holds of token t the channels j,
    j + D / n, ... of the n that share a byte, the first in its lowest bits. V codes are
    (block_size, D * nbits / 8) in the same way. Unpacked K is (D, block_size), V (block_size, D).
    Meta is fp16: scales, then least values, K's (D) or (block_size), V's (groups, block_size).
    """

    format: KVFormat
    block_size: int
    head_dim: int
    dtype_bytes: int

    @cached_property
    def value_at(self) -> int:
        key = self.format.key
        return _aligned(key.code_bytes(self.block_size, self.head_dim, self.dtype_bytes))

    @cached_property
    def key_meta_at(self) -> int:
        value = self.format.value.code_bytes(self.block_size, self.head_dim, self.dtype_bytes)
        return self.value_at + _aligned(value)

    @cached_property
    def value_meta_at(self) -> int:
        meta = self.format.key.meta_bytes(self.block_size, self.head_dim)
        return self.key_meta_at + _aligned(meta)

    @cached_property
    def num_bytes(self) -> int:
        """Of one record, a multiple of ALIGNMENT."""
        meta = self.format.value.meta_bytes(self.block_size, self.head_dim)
        return self.value_meta_at + _aligned(meta)

    @property
    def bits_per_element(self) -> float:
        """Metadata included."""
        return 8 * self.num_bytes / (2 * self.block_size * self.head_dim)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
