"""Folds as bytes: how arrays travel inside a keyframe."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from itertools import accumulate, islice
from operator import sub
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")
MAX_ITEMS: Final = 1 << 24
_WIDTHS: Final = "bhiq"


def _deltas(values: array[int]) -> array[int]:
    pairs = map(sub, islice(values, 1, None), values)
    for width in _WIDTHS[:-1]:
        try:
            return array(width, (values[0], *pairs))
        except OverflowError:
            pairs = map(sub, islice(values, 1, None), values)
    return array("q", (values[0], *pairs))


def pack(values: array[int]) -> bytes:
    """Differences of neighbours in the narrowest width that holds them all, little-endian."""
    if not values:
        return b""
    deltas = _deltas(values)
    if sys.byteorder == "big":
        deltas.byteswap()
    return deltas.typecode.encode() + deltas.tobytes()


def unpack(data: bytes) -> array[int]:
    """The array('q') that was packed. Raises: ValueError when the bytes are not of `pack`."""
    if not data:
        return array("q")
    width = data[:1].decode("ascii", "replace")
    if width not in _WIDTHS or len(data) > 8 * MAX_ITEMS:
        raise ValueError("not a packed array")
    deltas = array(width)
    deltas.frombytes(data[1:])
    if sys.byteorder == "big":
        deltas.byteswap()
    try:
        return array("q", accumulate(deltas))
    except OverflowError:
        raise ValueError("packed array leaves 64 bits") from None


def ints(values: Iterable[int]) -> array[int]:
    return array("q", values)


def _encode_array(value: Any) -> bytes:
    if isinstance(value, array):
        return pack(value)
    raise NotImplementedError(f"{type(value)} has no place in a keyframe")


def _decode_array(kind: type, value: Any) -> Any:
    if kind is array and isinstance(value, bytes):
        return unpack(value)
    raise ValueError(f"{kind} has no place in a keyframe")


def encode(frame: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(frame, enc_hook=_encode_array)


def decode(data: bytes, kind: type[T]) -> T:
    """Raises: msgspec.DecodeError, msgspec.ValidationError."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_decode_array)
