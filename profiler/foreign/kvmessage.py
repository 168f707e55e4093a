"""One message of vLLM's KV events, decoded: hashes and their order, without the tokens.

Source: vLLM, distributed/kv_events.py. Its events were arrays and are maps since 2026; SGLang sends
the arrays.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from profiler.errors import StreamError

MAX_MESSAGE_BYTES: Final = 16 << 20
MAX_EVENTS: Final = 65_536
MAX_HASH_BYTES: Final = 64
_MAX_WORD: Final = 32

Hash = bytes | int


class _Batch(msgspec.Struct, array_like=True, gc=False):
    ts: float
    events: list[msgspec.Raw]
    data_parallel_rank: int | None = None


class _Stored(msgspec.Struct, tag="BlockStored", gc=False):
    """Fields that are not named here are passed over, not decoded: the tokens among them."""

    block_hashes: list[Hash]
    block_size: int
    parent_block_hash: Hash | None = None
    medium: str | None = None
    group_idx: int | None = None


class _Removed(msgspec.Struct, tag="BlockRemoved", gc=False):
    block_hashes: list[Hash]
    medium: str | None = None
    group_idx: int | None = None


class _Cleared(msgspec.Struct, tag="AllBlocksCleared", gc=False):
    pass


class _StoredArray(msgspec.Struct, tag="BlockStored", array_like=True, gc=False):
    block_hashes: list[Hash]
    parent_block_hash: Hash | None
    token_ids: msgspec.Raw
    block_size: int
    lora_id: msgspec.Raw = msgspec.Raw()
    medium: str | None = None
    lora_name: msgspec.Raw = msgspec.Raw()
    extra_keys: msgspec.Raw = msgspec.Raw()
    group_idx: int | None = None


class _RemovedArray(msgspec.Struct, tag="BlockRemoved", array_like=True, gc=False):
    block_hashes: list[Hash]
    medium: str | None = None
    group_idx: int | None = None


class _ClearedArray(msgspec.Struct, tag="AllBlocksCleared", array_like=True, gc=False):
    pass


class Scope(NamedTuple):
    """Blocks of one scope know each other by their hashes alone."""

    rank: int
    group: int
    medium: str


class Stored(NamedTuple):
    scope: Scope
    hashes: list[Hash]
    parent: Hash | None
    tokens: int


class Removed(NamedTuple):
    scope: Scope
    hashes: list[Hash]


class Cleared(NamedTuple):
    rank: int


class Message(NamedTuple):
    """`ts` is the server's own clock when it was made: no two batches share it."""

    ts: float
    changes: list[Stored | Removed | Cleared]


_batches: Final = msgspec.msgpack.Decoder(_Batch)
_maps: Final = msgspec.msgpack.Decoder(_Stored | _Removed | _Cleared)
_arrays: Final = msgspec.msgpack.Decoder(_StoredArray | _RemovedArray | _ClearedArray)


def read_message(data: bytes) -> Message:
    """Raises: StreamError for what is no such message, or out of all bounds."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise StreamError(f"a message of more than {MAX_MESSAGE_BYTES >> 20} MiB")
    try:
        batch = _batches.decode(data)
        if len(batch.events) > MAX_EVENTS:
            raise StreamError(f"more than {MAX_EVENTS} events in one message")
        rank = batch.data_parallel_rank or 0
        return Message(batch.ts, [_change(event, rank) for event in batch.events])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise StreamError(f"no message of KV events ({type(error).__name__})") from None


def _change(raw: msgspec.Raw, rank: int) -> Stored | Removed | Cleared:
    event = (_maps if _is_map(raw) else _arrays).decode(raw)
    if isinstance(event, _Cleared | _ClearedArray):
        return Cleared(rank)
    scope = Scope(rank, event.group_idx or 0, (event.medium or "")[:_MAX_WORD])
    hashes = event.block_hashes
    if isinstance(event, _Removed | _RemovedArray):
        _check(hashes)
        return Removed(scope, hashes)
    parent = event.parent_block_hash
    _check(hashes if parent is None else [*hashes, parent])
    if not 0 < event.block_size < 1 << 31:
        raise msgspec.ValidationError("a block of that many tokens cannot be")
    return Stored(scope, hashes, parent, event.block_size)


def _is_map(raw: msgspec.Raw) -> bool:
    first = bytes(memoryview(raw)[:1])
    return b"\x80" <= first <= b"\x8f" or first in (b"\xde", b"\xdf")


def _check(hashes: list[Hash]) -> None:
    if any(isinstance(found, bytes) and len(found) > MAX_HASH_BYTES for found in hashes):
        raise msgspec.ValidationError(f"a hash of more than {MAX_HASH_BYTES} bytes")
