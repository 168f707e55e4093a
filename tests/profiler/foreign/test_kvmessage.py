"""What vLLM publishes is read in both of its shapes; nothing else gets in, and no token stays."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import StreamError
from profiler.foreign.kvmessage import (
    MAX_MESSAGE_BYTES,
    Cleared,
    Removed,
    Scope,
    Stored,
    read_message,
)

encode = msgspec.msgpack.encode
SECRET = 31_337
TOKENS = [SECRET] * 64


def as_map(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


# As vLLM 0.32 sends them, as older ones did (and SGLang does), with and without later fields.
STORED_MAP = as_map(
    "BlockStored",
    block_hashes=[b"\x01" * 32, b"\x02" * 32],
    parent_block_hash=None,
    token_ids=TOKENS,
    block_size=32,
    lora_id=None,
    medium="GPU",
    lora_name=None,
    extra_keys=[None, ["salt"]],
    group_idx=0,
    session_id="a",
)
STORED_ARRAY = ["BlockStored", [b"\x01" * 32, b"\x02" * 32], None, TOKENS, 32, None, "GPU"]


@pytest.mark.parametrize("event", [STORED_MAP, STORED_ARRAY, [*STORED_ARRAY, None, [None], 0]])
def test_a_stored_run_is_the_same_in_every_shape(event: Any) -> None:
    message = read_message(encode([1.5, [event], 0]))
    expected = Stored(Scope(0, 0, "GPU"), [b"\x01" * 32, b"\x02" * 32], None, 32)
    assert message.ts == 1.5 and message.changes == [expected]
    assert str(SECRET) not in repr(message)


def test_the_rest_is_read_in_order() -> None:
    events = [
        as_map("BlockRemoved", block_hashes=[7], medium=None, group_idx=2),
        ["BlockRemoved", [8], "CPU"],
        as_map("AllBlocksCleared"),
        ["AllBlocksCleared"],
        ["BlockStored", [9], 8, TOKENS, 16, None],
    ]
    assert read_message(encode([0.0, events, 3])).changes == [
        Removed(Scope(3, 2, ""), [7]),
        Removed(Scope(3, 0, "CPU"), [8]),
        Cleared(3),
        Cleared(3),
        Stored(Scope(3, 0, ""), [9], 8, 16),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93",
        encode({"ts": 1}),
        encode([1.0, [{"type": "Shutdown"}]]),
        encode([1.0, [["BlockStored", "text", None, [], 16, None]]]),
        encode([1.0, [["BlockStored", [b"x" * 65], None, [], 16, None]]]),
        encode([1.0, [["BlockStored", [1], None, [], 0, None]]]),
        encode([1.0, [["BlockStored", [1], None, [], 1 << 40, None]]]),
        encode([1.0, [["AllBlocksCleared"]] * 65_537]),
        b"\x92\xca\x00\x00\x00\x00" + b"\x91" * 1_000_000,
        encode([1.0, []]) + b"\x00" * MAX_MESSAGE_BYTES,
    ],
)
def test_what_is_no_such_message_is_refused(data: bytes) -> None:
    with pytest.raises(StreamError):
        read_message(data)


@given(data=st.binary(max_size=200), at=st.integers(0, 400))
def test_a_damaged_message_is_read_or_refused(data: bytes, at: int) -> None:
    whole = encode([1.5, [STORED_MAP, STORED_ARRAY], 0])
    for damaged in (data, whole[:at] + data + whole[at + len(data) :]):
        try:
            read_message(damaged)
        except StreamError as error:
            assert error.message
