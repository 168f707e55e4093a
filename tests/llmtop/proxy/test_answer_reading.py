"""How many tokens an answer brought, however it is cut, packed or framed."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from llmtop.proxy.answer import Answer
from llmtop.proxy.asked import MAX_BODY_BYTES, RequestBody
from llmtop.proxy.headers import end_to_end, forwarded

STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


def event(**message: Any) -> bytes:
    return b"data: " + json.dumps(message).encode() + b"\n\n"


def spoken(text: str, reason: str | None = None, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "text": text, "finish_reason": reason}], **more)


THREE = (
    event(choices=[{"delta": {"role": "assistant", "content": ""}}])
    + event(choices=[{"delta": {"content": "a"}}])
    + b": a comment\n\n"
    + event(choices=[{"delta": {"reasoning_content": "b"}}])
    + event(choices=[{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}])
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_stream_may_be_cut_anywhere(size: int, line_end: bytes) -> None:
    answer = Answer(200, STREAM)
    data = THREE.replace(b"\n", line_end)
    brought = [answer.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert sum(brought) == answer.counted_tokens == 3
    assert answer.finish_reason == "tool_calls"
    assert answer.usage.completion_tokens is None and answer.failure == ""


def test_several_events_in_one_part_are_one_piece_of_several_tokens() -> None:
    assert Answer(200, STREAM).feed(spoken("a") + spoken("b")) == 2


def test_a_total_at_the_end_brings_no_token() -> None:
    answer = Answer(200, STREAM)
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": None}
    assert [answer.feed(spoken("a")), answer.feed(event(choices=[], usage=usage))] == [1, 0]
    assert (answer.counted_tokens, answer.usage.completion_tokens) == (1, 5)


def test_a_server_that_counts_piece_by_piece_is_believed() -> None:
    answer = Answer(200, STREAM)
    totals = (0, 3, 4, 4)
    parts = [spoken("x" if n else "", usage={"completion_tokens": n}) for n in totals]
    assert [answer.feed(part) for part in parts] == [0, 3, 1, 0]
    assert answer.counted_tokens == answer.usage.completion_tokens == 4


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_a_packed_stream_is_read_as_it_comes(size: int) -> None:
    answer = Answer(200, [*STREAM, (b"content-encoding", b"gzip")])
    data = gzip.compress(THREE)
    assert sum(answer.feed(data[at : at + size]) for at in range(0, len(data), size)) == 3


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, br"])
def test_what_cannot_be_unpacked_is_unknown_not_zero(encoding: bytes) -> None:
    answer = Answer(200, [*STREAM, (b"content-encoding", encoding)])
    assert answer.feed(b"\x8b\x01") == 0
    assert answer.counted_tokens is None and answer.failure == ""


def test_an_answer_in_one_piece_tells_at_its_end() -> None:
    answer = Answer(200, JSON)
    body = json.dumps(
        {
            "choices": [{"message": {"content": "hello"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 2},
        }
    ).encode()
    assert answer.feed(body[:10]) == answer.feed(body[10:]) == 0
    assert answer.end() == 2
    assert (answer.finish_reason, answer.usage.prompt_tokens) == ("length", 4)


def test_one_piece_without_usage_is_unknown() -> None:
    answer = Answer(200, JSON)
    answer.feed(b'{"choices": [{"text": "hello"}]}')
    assert answer.end() == 0
    assert answer.counted_tokens is None and answer.failure == ""


@pytest.mark.parametrize(
    ("status", "headers", "body", "failure"),
    [
        (200, [(b"content-type", b"text/html")], b"<html>", "no completion"),
        (200, JSON, b"not json", "no completion"),
        (200, JSON, b'{"choices": 3}', "no completion"),
        (200, [], b"", "no completion"),
        (200, STREAM, b"data: {]\n\n", "no completion"),
        (429, JSON, b'{"error": {"message": "slow down"}}', "status 429"),
        (307, [], b"", "status 307"),
        (200, STREAM, spoken("a") + event(error={"message": "no"}), "an error in the stream"),
    ],
)
def test_what_is_no_answer_says_so(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, failure: str
) -> None:
    answer = Answer(status, headers)
    answer.feed(body)
    answer.end()
    assert answer.failure == failure


@pytest.mark.parametrize("headers", [STREAM, JSON])
def test_what_is_held_is_bounded(headers: list[tuple[bytes, bytes]]) -> None:
    answer = Answer(200, headers)
    for _ in range(40):
        answer.feed(b"x" * 100_000)
    assert answer.counted_tokens is None and answer.failure == ""
    assert answer.end() == 0


def test_a_packed_bomb_is_not_unpacked() -> None:
    answer = Answer(200, [*JSON, (b"content-encoding", b"gzip")])
    answer.feed(gzip.compress(b"0" * (64 << 20)))
    assert answer.counted_tokens is None


def test_what_was_asked_holds_no_prompt() -> None:
    body = RequestBody()
    body.feed(b'{"prompt": "secret", "max_tokens": 3, "max_completion')
    body.feed(b'_tokens": 7, "temperature": 0.5, "n": 2}')
    asked = body.read()
    assert (asked.most_tokens, asked.sampling) == (7, "temperature=0.5 n=2")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xff", b'{"max_tokens": "x"}', b" " * (MAX_BODY_BYTES + 1)]
)
def test_an_odd_request_asks_for_nothing_known(data: bytes) -> None:
    body = RequestBody()
    body.feed(data)
    assert (body.read().most_tokens, body.read().sampling) == (None, "")


def test_a_length_beside_chunks_does_not_pass() -> None:
    both = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]
    assert forwarded(both, b"x")[1:] == [(b"transfer-encoding", b"chunked")]


def test_headers_of_one_connection_stay_there() -> None:
    headers = [
        (b"Host", b"proxy"),
        (b"Connection", b"close, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Authorization", b"Bearer k"),
        (b"X-Yours", b"2"),
        (b"TE", b"trailers"),
        (b"Expect", b"100-continue"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    assert forwarded(headers, b"there:1") == [
        (b"host", b"there:1"),
        (b"authorization", b"Bearer k"),
        (b"x-yours", b"2"),
        (b"transfer-encoding", b"chunked"),
    ]
    assert [name for name, _ in end_to_end(headers)] == [
        b"host",
        b"authorization",
        b"x-yours",
        b"expect",
    ]
